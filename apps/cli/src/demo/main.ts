// `npm start`, `npm run demo` and `npx turbo run dev`: Baton, and the energy pipeline on the real data, in one process
// tree. For the repository; what is installed from the package has `baton up`.
import { enableCompileCache } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const USAGE = `Usage: npm start
       npm run demo -- [--crash] [-o json|table] [--out DIR]
       npx turbo run dev

start   Postgres, a master, two workers and the energy services, a run of the pipeline; stays until Ctrl-C
demo    the same beside whatever runs, then ends with the outcome: 0 or 1
  --crash    kill -9 a worker with the call of a service in flight, and prove that nothing was lost
  -o json    one JSON object on stdout (npm prints lines of its own before it, unless it is run with --silent)
  --out DIR  where the outputs go; default outputs
dev     the same as start; edited tasks and an edited master are live at once

  --tasks FILE       the workers' module of tasks; default apps/cli/src/demo/tasks.ts
  --stop-with-stdin  stop when stdin ends, too
`;

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      crash: { type: 'boolean', default: false },
      output: { type: 'string', short: 'o', default: 'table' },
      out: { type: 'string', default: 'outputs' },
      tasks: { type: 'string' },
      watch: { type: 'boolean', default: false },
      'stop-with-stdin': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [what = 'start'] = positionals;
  if (!['start', 'run', 'dev'].includes(what)) throw new TypeError(`"${what}" is not start, run or dev`);
  if (values.output !== 'json' && values.output !== 'table') throw new TypeError(`-o is json or table`);
  return { ...values, what, output: values.output };
}

async function main(): Promise<number> {
  const { repositoryAround } = await import('../doctor/repository.ts');
  const root = repositoryAround(import.meta.dirname);
  if (root === undefined) {
    process.stderr.write('this is for a clone of the repository; here there is `baton up`\n');
    return 1;
  }
  // turbo runs this in the package's directory; paths are the repository's.
  process.chdir(root);
  // What was compiled once is not compiled again, here and in every process that is started: half of a start.
  process.env.NODE_COMPILE_CACHE ??= resolve(process.env.BATON_HOME || '.baton', 'cache');
  enableCompileCache(process.env.NODE_COMPILE_CACHE);

  let given: ReturnType<typeof readArguments>;
  try {
    given = readArguments();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return 64;
  }
  if (given.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { createContext } = await import('../context.ts');
  const { explain } = await import('../explain.ts');
  const { what, crash, output, out, tasks, watch } = given;
  if (what === 'dev') return (await import('./dev.ts')).dev(import.meta.filename, process.argv.slice(3));
  // With -o json, stdout is for the one object.
  const stdout = output === 'json' ? process.stderr : process.stdout;
  const context = createContext({ env: process.env, stdout, stderr: process.stderr });
  const print = output === 'json' ? printJson : undefined;
  const stopWithStdin = given['stop-with-stdin'];
  const options = { context, root, out: resolve(out), tasks: tasks && resolve(tasks), stopWithStdin, print };
  try {
    if (what === 'start') return await (await import('./start.ts')).start({ ...options, watch });
    // A home of its own: it runs beside `npm start`, and removes nothing of it.
    const home = join(process.env.BATON_HOME || '.baton', crash ? 'demo-crash' : 'demo');
    if (crash) return await (await import('./crash.ts')).crash({ ...options, home });
    return await (await import('./run.ts')).run({ ...options, home });
  } catch (error) {
    const { message, hints, exitCode } = explain(error, context.connection);
    for (const line of message.split('\n')) context.screen.note({ text: line, style: 'red' });
    for (const hint of hints) context.screen.note({ text: `  ${hint}`, style: 'dim' });
    return exitCode;
  }
}

function printJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

// Whoever read what is said here may be gone before everything is stopped.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
process.exitCode = await main();
