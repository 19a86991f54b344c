import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { startStandalone } from '@baton/cli/standalone';
import { testDatabase } from '@baton/testkit';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { total } from './tasks.ts';

const bin = fileURLToPath(new URL('./bin.ts', import.meta.resolve('@baton/cli')));
const tasksModule = fileURLToPath(new URL('./tasks.ts', import.meta.url));

const PIPELINE = {
  name: 'sums',
  nodes: {
    generate: { task: 'generate', input: { count: { $input: ['count'] } } },
    total: {
      task: 'total',
      needs: ['generate'],
      input: { numbers: { $from: 'generate', path: ['numbers'] }, after: { $input: ['after'] } },
    },
  },
};

let folder: string;
let file: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'baton-alone-'));
  file = join(folder, 'sums.json');
  await writeFile(file, JSON.stringify(PIPELINE));
  return () => rm(folder, { recursive: true, force: true });
});

/** `baton run start sums.json --standalone` in a directory of its own. */
function start(home: string, ...words: string[]) {
  const args = [bin, 'run', 'start', file, '--standalone', '--tasks', tasksModule, ...words];
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const env = { PATH, HOME, NODE_COMPILE_CACHE, BATON_HOME: join(folder, home), LOG_DIR: join(folder, 'logs') };
  const child = spawn(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)]).then(
    ([[code], stdout, stderr]) => ({ code: code as number | null, stdout, stderr }),
  );
  return { child, ended };
}

test('a task is done by a master and a worker of this very process', { timeout: 60_000 }, async () => {
  await using database = await testDatabase();
  await using standalone = await startStandalone({ tasks: [total], databaseUrl: database.url });
  const handle = await standalone.baton.enqueue(total, { numbers: [1, 2, 3] });
  expect(await handle.result()).toBe(6);
  const names: string[] = [];
  for await (const worker of standalone.baton.workers.list()) names.push(worker.name);
  expect(names).toEqual([`standalone-${process.pid}`]);
});

test('a run that is interrupted goes on in the next process, and nothing is left running', {
  timeout: 120_000,
}, async () => {
  const after = join(folder, 'go');
  const words = ['--input', 'count=5', '--input', `after=${after}`, '--key', 'once', '-o', 'json'];
  const first = start('home', ...words);
  let seen = '';
  // The first node is done, the second one waits.
  await new Promise<void>((resolve) => {
    first.child.stdout.on('data', (data: Buffer) => {
      seen += data.toString();
      if (/"nodeId":"total","state":"running"/.test(seen.split('\n').at(-2) ?? '')) resolve();
    });
  });
  first.child.kill('SIGINT');
  const interrupted = await first.ended;
  expect(interrupted.code, interrupted.stderr).toBe(1);
  expect(interrupted.stderr).toContain('the run goes on in the next process of this home');

  await writeFile(after, '');
  const second = await start('home', ...words).ended;
  expect(second.code, second.stderr).toBe(0);
  const [before, run] = [interrupted.stdout, second.stdout].map((out) => JSON.parse(out.trim().split('\n').at(-1)!));
  expect(run).toMatchObject({ id: before.id, state: 'succeeded' });
  expect(run.nodes.map((node: { attempts: number; output: unknown }) => [node.attempts, node.output])).toEqual([
    [1, { numbers: [0, 1, 2, 3, 4] }],
    [1, 10],
  ]);
  // Its Postgres is gone with it: another one may begin in the same place.
  const third = await start('home', '--input', 'count=2', '--input', `after=${after}`).ended;
  expect(third.code, third.stderr).toBe(0);
});

test.each([
  [['--url', 'http://127.0.0.1:1'], '--standalone needs no server'],
  [['--tasks', 'nowhere.ts'], 'nowhere.ts'],
])('%j is refused, saying why', async (words, message) => {
  const { code, stderr } = await start('refused', ...words).ended;
  expect(code).not.toBe(0);
  expect(stderr).toContain(message);
});
