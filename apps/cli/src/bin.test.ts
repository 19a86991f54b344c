import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const BIN = fileURLToPath(new URL('./bin.ts', import.meta.url));

/** Runs the program itself, in a directory of its own. */
async function program(args: string[], options: { env?: NodeJS.ProcessEnv; node?: string[] } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'baton-bin-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const { PATH } = process.env;
  return new Promise<{ exitCode: number; stdout: string; stderr: string }>((resolve) => {
    const command = [...(options.node ?? []), BIN, ...args];
    execFile(process.execPath, command, { cwd: directory, env: { PATH, ...options.env } }, (error, stdout, stderr) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

async function closedPort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const { port } = listener.address() as { port: number };
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

test('the program ends with the exit code, its data on stdout', async () => {
  expect(await program(['version'])).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^baton /),
    stderr: '',
  });
  expect(await program(['nothing'])).toMatchObject({ exitCode: 64, stdout: '' });
});

test('`baton worker` takes the flags of the worker, and they win over its variables', async () => {
  const env = { BATON_WORKER_SLOTS: '2' };
  const { exitCode, stderr } = await program(['worker', '--slots', 'many', '--tasks', 'x.ts'], { env });
  expect(exitCode).toBe(64);
  expect(stderr).toContain('"many"');
});

test('without a server it ends with 5', async () => {
  const port = await closedPort();
  const { exitCode, stdout, stderr } = await program(['run', 'list'], { env: { BATON_PORT: String(port) } });
  expect([exitCode, stdout]).toEqual([5, '']);
  expect(stderr).toContain(`cannot reach Baton at http://127.0.0.1:${port} (from BATON_PORT)`);
});

test('help loads no client, no log and no parser: a command loads what it needs', async () => {
  const hook = `import { registerHooks } from 'node:module';
    registerHooks({ resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      process._rawDebug(resolved.url);
      return resolved;
    } });`;
  const preload = `data:text/javascript,${encodeURIComponent(hook)}`;
  const { exitCode, stderr } = await program(['--help'], { node: ['--import', preload] });
  expect(exitCode).toBe(0);
  const loaded = stderr.split('\n');
  expect(loaded.some((url) => url.includes('/apps/cli/src/root.ts'))).toBe(true);
  expect(loaded.filter((url) => /\/packages\/|pino|connectrpc|\/yaml\/|protobuf/.test(url))).toEqual([]);
});
