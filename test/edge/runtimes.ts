import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
/** The entry point under Deno. */
export const denoMain = fileURLToPath(import.meta.resolve('@baton/edge/deno'));
/** The folder of apps/edge: its scripts and configurations are what is run here. */
const edge = join(dirname(denoMain), '../..');

/** Short, so that a test sees the end of a stream that nobody reads. */
const BATON_STREAM_MS = '3000';

/** One of the runtimes that serve the client services, as a process of its own. */
export interface EdgeProcess extends AsyncDisposable {
  readonly url: string;
  /** What it wrote so far. */
  readonly log: string;
}

/** A runtime ended, or said nothing for too long, before it served. */
class EdgeStartError extends Error {
  override readonly name = 'EdgeStartError';
}

/** The binary of the npm package `deno`, and not its shim, which would outlive a signal. */
export const denoPath: string = require('deno/install_api.cjs').runInstall();
const workerdPath: string = require('workerd').default;

/** apps/edge under Deno, from its sources. */
export async function startDeno(databaseUrl: string): Promise<EdgeProcess> {
  const flags = ['--allow-net', '--allow-env', '--allow-sys', '--node-modules-dir=manual', '--no-lock'];
  const child = spawn(denoPath, ['run', ...flags, denoMain], {
    cwd: edge,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: databaseUrl,
      BATON_PORT: '0',
      BATON_STREAM_MS,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return serving('deno', child, child.stdout!, (line) => JSON.parse(line).url);
}

/** apps/edge under workerd: bundled by its own script, run with its own configuration, on any free port. */
export async function startWorkerd(databaseUrl: string): Promise<EdgeProcess> {
  const build = spawn('npm', ['run', '--silent', 'build'], { cwd: edge, stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = await once(build, 'exit');
  if (code !== 0) throw new EdgeStartError(`the bundle for workerd could not be made: ${code}`);
  const child = spawn(
    workerdPath,
    ['serve', 'workerd.capnp', '--socket-addr', 'http=127.0.0.1:0', '--control-fd', '3'],
    {
      cwd: edge,
      env: { DATABASE_URL: databaseUrl, BATON_DATABASE_POOLED: '1', BATON_STREAM_MS },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    },
  );
  return serving('workerd', child, child.stdio[3] as Readable, (line) => {
    const { event, port } = JSON.parse(line);
    return event === 'listen' ? `http://127.0.0.1:${port}` : undefined;
  });
}

async function serving(
  name: string,
  child: ChildProcess,
  ready: Readable,
  urlIn: (line: string) => string | undefined,
): Promise<EdgeProcess> {
  const lines: string[] = [];
  const exited = once(child, 'exit');
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', (line) => lines.push(line));
  const url = await new Promise<string>((resolve, reject) => {
    const fail = (how: string) => {
      child.kill('SIGKILL');
      reject(new EdgeStartError(`${name} ${how}\n${lines.join('\n')}`));
    };
    const timer = setTimeout(() => fail('did not serve within 30 s'), 30_000);
    child.once('close', (code) => fail(`ended (${code}) before it served`));
    createInterface({ input: ready }).on('line', (line) => {
      const url = urlIn(line);
      if (url === undefined) return;
      clearTimeout(timer);
      resolve(url);
    });
  });
  return {
    url,
    get log() {
      return lines.join('\n');
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
