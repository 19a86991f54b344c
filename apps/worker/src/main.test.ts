import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { task } from '@baton/client';
import { TaskClass, WorkerService } from '@baton/contract';
import { FakeMaster } from '@baton/runtime/testing';
import { silentLogger } from '@baton/telemetry';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, onTestFinished, test } from 'vitest';
import { createWorker } from './create-worker.ts';

const main = fileURLToPath(new URL('./main.ts', import.meta.url));
const json = (text: string) => new TextEncoder().encode(text);

const tasks = `
export const greet = { __baton: 'task', id: 'greet', run: (input) => 'Hello, ' + input };
export const hold = { __baton: 'task', id: 'hold', run: (_, { signal }) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 60_000);
  signal.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); });
}) };
export const short = { __baton: 'task', id: 'short', run: () => new Promise((resolve) => setTimeout(resolve, 300)) };
`;

async function startProcess(
  env: Record<string, string> = {},
  drainGraceMs = 5_000,
): Promise<{
  master: FakeMaster;
  child: ChildProcess;
  hello: { worker: string; url: string; pid: number };
  logDir: string;
}> {
  const master = await FakeMaster.start({ drainGraceMs, heartbeatIntervalMs: 200 });
  const home = mkdtempSync(join(tmpdir(), 'baton-worker-'));
  writeFileSync(join(home, 'tasks.mjs'), tasks);
  const logDir = join(home, 'logs');
  const child = spawn(process.execPath, [main], {
    cwd: home,
    env: {
      PATH: process.env.PATH,
      BATON_URL: master.url,
      BATON_WORKER_NAME: 'w1',
      BATON_WORKER_TASKS: './tasks.mjs',
      LOG_DIR: logDir,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await master.close();
  });
  child.stderr!.resume();
  const [line] = await once(createInterface({ input: child.stdout! }), 'line');
  return { master, child, hello: JSON.parse(line), logDir };
}

test('the process says that it is registered, runs tasks of a module, serves WorkerService, and drains on SIGTERM', async () => {
  const { master, child, hello, logDir } = await startProcess({
    BATON_WORKER_CLASSES: 'gpu',
    BATON_WORKER_TAGS: 'fast',
    BATON_WORKER_SLOTS: '3',
  });
  expect(hello).toEqual({ worker: 'w1', url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/), pid: child.pid });
  expect(master.registrations[0]).toMatchObject({
    name: 'w1',
    serviceUrl: hello.url,
    capabilities: {
      os: process.platform,
      arch: process.arch,
      taskClasses: [TaskClass.GPU],
      tags: ['fast'],
      slots: 3,
      executors: ['function', 'grpc', 'process', 'http'],
      kinds: ['greet', 'hold', 'short'],
      pid: child.pid,
    },
  });
  const { outcome } = await master.result(master.submit({ kind: 'greet', input: json('"you"') }));
  expect(outcome.case === 'success' && new TextDecoder().decode(outcome.value.output)).toBe('"Hello, you"');
  const client = createClient(WorkerService, createGrpcTransport({ baseUrl: hello.url }));
  expect((await client.getStatus({})).metrics!.tasksCompleted).toBe(1n);

  const id = master.submit({ kind: 'short' });
  while ((await client.getStatus({})).running.length === 0) {}
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(master.results.get(id)!.outcome.case).toBe('success');
  expect(master.left).toEqual(['SIGTERM']);
  const lines = readFileSync(join(logDir, 'worker-w1.jsonl'), 'utf8').trimEnd().split('\n');
  expect(lines.map((line) => JSON.parse(line).msg)).toEqual(
    expect.arrayContaining(['worker registered', 'signal received', 'left the master', 'worker stopped']),
  );
}, 20_000);

test('a second signal ends the grace: what runs goes back at once', async () => {
  const { master, child } = await startProcess({ BATON_WORKER_PORT: '0' }, 60_000);
  const id = master.submit({ kind: 'hold' });
  await master.until(() => master.heartbeats.some(({ metrics }) => metrics?.running === 1));
  child.kill('SIGTERM');
  await master.until(
    () =>
      master.exchanges.some(({ offer }) => offer?.freeSlots === 0) ||
      master.heartbeats.some(({ draining }) => draining),
  );
  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(master.results.get(id)!.outcome.case).toBe('returned');
}, 20_000);

test('the default port gives way when it is taken', async () => {
  const taken = createServer().listen(7801, '127.0.0.1');
  // Whoever else may have it serves the purpose as well.
  await Promise.race([once(taken, 'listening'), once(taken, 'error')]).catch(() => {});
  onTestFinished(() => void taken.close());
  const { hello } = await startProcess();
  expect(new URL(hello.url).port).not.toBe('7801');
}, 20_000);

test('a fixed port that is taken ends the process with a word', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  onTestFinished(() => void taken.close());
  const { port } = taken.address() as { port: number };
  const child = spawn(
    process.execPath,
    [main, '--port', String(port), '--log-dir', mkdtempSync(join(tmpdir(), 'baton-log-'))],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let text = '';
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, 'close');
  expect(code).toBe(1);
  expect(text).toContain(`127.0.0.1:${port} is already in use`);
}, 20_000);

test('a wrong configuration ends the process with 64 and all that is wrong', async () => {
  const child = spawn(process.execPath, [main, '--slots', 'many', '--url', 'nowhere'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, 'close');
  expect(code).toBe(64);
  expect(text).toContain('--slots is "many"');
  expect(text).toContain('--url is "nowhere"');
});

test('a program makes a worker of its tasks, as an array or as a module', async () => {
  const double = task({ id: 'double', run: (input: number) => input * 2 });
  const triple = task({ id: 'triple', run: async (input: number) => input * 3 });
  for (const given of [[double, triple], { double, triple, unrelated: 7 }]) {
    const master = await FakeMaster.start();
    const worker = createWorker({ url: master.url, name: 'embedded', tasks: given, log: silentLogger });
    onTestFinished(async () => {
      await worker.stop();
      await master.close();
    });
    await worker.start();
    expect(worker.state).toBe('idle');
    expect(master.registrations[0]!.capabilities!.kinds).toEqual(['double', 'triple']);
    const { outcome } = await master.result(master.submit({ kind: 'triple', input: json('14') }));
    expect(outcome.case === 'success' && new TextDecoder().decode(outcome.value.output)).toBe('42');
    await worker.drain();
    expect(await worker.stopped).toBe('asked to');
  }
});
