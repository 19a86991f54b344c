import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Baton, createBaton, graph, TaskFailed } from '@baton/client';
import { type Stack, startStack } from '@baton/testkit';
import { expect, test, vi } from 'vitest';
import { killAtRandom } from './kill-at-random.ts';
import { processesWith, readNotes } from './notes.ts';

const timeout = 120_000;
const train = fileURLToPath(new URL('train.py', import.meta.url));
const process_ = (command: readonly string[], more: object = {}) => ({ type: 'process' as const, command, ...more });
const retry = { maxAttempts: 20, initialDelayMs: 50, factor: 1 };
const until = <T>(look: () => T, what: string) =>
  vi.waitUntil(look, { timeout: 30_000, interval: 20 }).catch((error) => {
    throw new Error(`waited for ${what}`, { cause: error });
  });

async function open(
  options: Parameters<typeof startStack>[0] = {},
): Promise<{ stack: Stack; baton: Baton; notes: string }> {
  // Of all tests, some run the programs as they are started by users: from their sources.
  const stack = await startStack({ from: 'source', ...options });
  return { stack, baton: createBaton({ url: stack.url }), notes: join(stack.home, 'notes') };
}

const alive = (stack: Stack) => processesWith(`STAGE=${stack.home}\0`, readdirSync('/proc'));

test('a training loop in plain Python whose worker is killed goes on from its checkpoint on another worker', {
  timeout,
}, async () => {
  const { stack, baton, notes } = await open({ workers: 2 });
  await using _ = stack;
  const input = { steps: 400, every: 20, notes, pause: 0.005 };
  const environment = { set: { STAGE: stack.home } };
  const task = await baton.submit({ kind: 'train', input, executor: process_(['python3', train]), environment, retry });
  await until(() => readNotes(notes).filter(({ what }) => what === 'saved').length >= 3, 'three checkpoints');
  const worker = (await task.status()).attempts[0]!.worker!;
  await stack.worker(worker).kill('SIGKILL');
  // Long before the lease is over: nothing of it writes any more.
  await until(() => alive(stack).length === 0, 'the program to die with its worker');
  const result = await task.result();
  const starts = readNotes(notes).filter(({ what }) => what === 'start');
  expect(starts.map(({ from }) => from)).toEqual([0, expect.any(Number)]);
  expect(starts[1]!.from).toBeGreaterThanOrEqual(60);
  const status = await task.status();
  expect(status.attempts.map(({ state }) => state)).toEqual(['lost', 'succeeded']);
  expect(status.attempts[1]!.worker).not.toBe(worker);
  const calm = await baton.submit({
    kind: 'train',
    input: { ...input, notes: `${notes}-calm`, pause: 0 },
    executor: process_(['python3', train]),
  });
  expect(result).toEqual(await calm.result());
});

test('a worker that drains asks for a checkpoint, and nothing that was done is done again elsewhere', {
  timeout,
}, async () => {
  const { stack, baton, notes } = await open({ workers: 2, env: { BATON_DRAIN_GRACE_MS: '300' } });
  await using _ = stack;
  const input = { steps: 600, every: 1_000_000, notes, pause: 0.005 };
  const once = { maxAttempts: 1 };
  const task = await baton.submit({ kind: 'train', input, executor: process_(['python3', train]), retry: once });
  await until(() => readNotes(notes).length > 0, 'the loop to begin');
  await until(async () => ((await task.status()).progress?.fraction ?? 0) > 0.05, 'some progress');
  const worker = (await task.status()).attempts[0]!.worker!;
  expect(await stack.worker(worker).kill('SIGTERM')).toEqual({ code: 0, signal: null });
  expect(await task.result()).toMatchObject({ steps: 600 });
  const [first, wanted, second, ...rest] = readNotes(notes);
  expect(first).toMatchObject({ what: 'start', from: 0 });
  expect(wanted).toMatchObject({ what: 'wanted' });
  expect(second).toMatchObject({ what: 'start', from: wanted!.step });
  expect(rest).toEqual([]);
  expect((await task.status()).attempts.map(({ state, number }) => `${number} ${state}`)).toEqual([
    '1 returned',
    '1 succeeded',
  ]);
});

test('functions are asked for a checkpoint, too', { timeout }, async () => {
  const { stack, baton } = await open({
    workers: 2,
    env: { BATON_DRAIN_GRACE_MS: '100' },
    tasksModule: new URL('tasks.ts', import.meta.url),
  });
  await using _ = stack;
  const task = await baton.submit({ kind: 'count', input: { to: 100 }, retry: { maxAttempts: 1 } });
  await until(async () => ((await task.status()).progress?.fraction ?? 0) > 0.1, 'some progress');
  const worker = (await task.status()).attempts[0]!.worker!;
  await stack.worker(worker).kill('SIGTERM');
  const { from, counted } = (await task.result()) as { from: number; counted: number };
  expect(from).toBeGreaterThan(10);
  expect(counted).toBe(100 - from);
});

test('what a killed worker left over, its watching shell too, is killed by the next one that starts', {
  timeout,
}, async () => {
  const { stack, baton } = await open({ workers: 1 });
  await using _ = stack;
  const script =
    '(setsid bash -c \'trap "" TERM HUP; while :; do sleep 1; done\' </dev/null >/dev/null 2>&1 &); touch "$STAGE/up"; sleep 1000';
  const environment = { set: { STAGE: stack.home } };
  const task = await baton.submit({
    kind: 'stay',
    executor: process_(['bash', '-c', script]),
    environment,
    retry: { maxAttempts: 1 },
  });
  await until(() => readdirSync(stack.home).includes('up'), 'the program');
  const [worker] = stack.workers;
  for (const pid of wardensOf(worker!.pid)) process.kill(pid, 'SIGKILL');
  await worker!.kill('SIGKILL');
  expect(alive(stack).length).toBeGreaterThan(2);
  const before = alive(stack);
  await task.cancel('enough');
  const next = await stack.addWorker();
  // Before it took any work.
  expect(alive(stack).filter((pid) => before.includes(pid))).toEqual([]);
  await next.logged(/processes killed that an earlier worker had left over/);
});

/** The shells that watch over a worker's children. */
function wardensOf(worker: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const parent = /^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
        return Number(parent) === worker && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('baton-warden');
      } catch {
        return false;
      }
    })
    .map(Number);
}

test('cancel and timeouts end the whole tree; limits and failures are told', { timeout }, async () => {
  const { stack, baton } = await open();
  await using _ = stack;
  const environment = { set: { STAGE: stack.home } };
  const script = '(setsid sleep 1000 &); touch "$STAGE/$NAME"; sleep 1000';
  const named = (name: string) => ({ set: { STAGE: stack.home, NAME: name } });
  const cancelled = await baton.submit({
    kind: 'a',
    executor: process_(['bash', '-c', script]),
    environment: named('a'),
  });
  await until(() => readdirSync(stack.home).includes('a'), 'the program');
  await cancelled.cancel('not wanted');
  await until(async () => (await cancelled.status()).state === 'cancelled', 'the end');
  expect(alive(stack)).toEqual([]);

  const late = await baton.submit({
    kind: 'b',
    executor: process_(['bash', '-c', script]),
    environment: named('b'),
    startToCloseTimeoutMs: 500,
    retry: { maxAttempts: 1 },
  });
  await expect(late.result()).rejects.toThrow(/start-to-close/);
  expect((await late.status()).failure?.type).toBe('TASK_TIMEOUT');
  const silent = await baton.submit({
    kind: 'c',
    executor: process_(['sleep', '1000']),
    environment,
    progressTimeoutMs: 500,
    retry: { maxAttempts: 1 },
  });
  await expect(silent.result()).rejects.toThrow(/no sign/);
  expect(alive(stack)).toEqual([]);

  const odd = await baton.submit({
    kind: 'd',
    executor: process_(['python3', '-c', 'raise KeyError("x")']),
    retry: { maxAttempts: 1 },
  });
  const failure = await odd.result().catch((error: TaskFailed) => error);
  expect(failure).toBeInstanceOf(TaskFailed);
  expect((await odd.status()).failure).toMatchObject({
    type: 'EVALUATION_ERROR',
    exceptionType: 'KeyError',
    stack: expect.stringContaining('Traceback'),
  });
  expect((await odd.status()).executor).toEqual({ type: 'process', command: ['python3', '-c', 'raise KeyError("x")'] });
});

test('a secret reaches a program only where the task asks and the worker allows; a workflow has programs as nodes', {
  timeout,
}, async () => {
  const { stack, baton } = await open({
    workerEnv: { BATON_TASK_ENV: 'TOKEN_A,TOKEN_C', TOKEN_A: 'a', TOKEN_B: 'b', TOKEN_C: 'c' },
  });
  await using _ = stack;
  const wf = graph<{ n: number }>({ id: 'programs' });
  const script =
    'echo "{\\"a\\":\\"$TOKEN_A\\",\\"b\\":\\"$TOKEN_B\\",\\"c\\":\\"$TOKEN_C\\",\\"n\\":$(cat "$BATON_INPUT_FILE")}"';
  const first = wf.process<{ a: string; n: number }>(
    'first',
    { command: ['bash', '-c', script], output: 'stdout_json' },
    { environment: { pass: ['TOKEN_A', 'TOKEN_B'] }, input: ({ input }) => input.n },
  );
  const second = wf.process<{ got: unknown }>(
    'second',
    {
      command: ['python3', '-c', 'import json, sys; print(json.dumps({"got": json.load(sys.stdin)}))'],
      stdin: true,
      output: 'stdout_json',
    },
    { needs: [first], input: ({ first: said }) => said },
  );
  const run = await baton.runs.start(wf.output({ said: second.output }), { input: { n: 7 } });
  expect(await run.output()).toEqual({ said: { got: { a: 'a', b: '', c: '', n: 7 } } });
});

test('what a program prints is in the log of its task, while it runs', { timeout }, async () => {
  const { stack, baton } = await open();
  await using _ = stack;
  const script = 'echo one; echo two >&2; while [ ! -e "$STAGE/go" ]; do sleep 0.05; done; echo three';
  const environment = { set: { STAGE: stack.home } };
  const task = await baton.submit({ kind: 'talk', executor: process_(['bash', '-c', script]), environment });
  const seen: string[] = [];
  for await (const { stream, text } of task.logs({ follow: true })) {
    seen.push(`${stream} ${text}`);
    if (seen.length === 2) writeFileSync(join(stack.home, 'go'), '');
  }
  expect(seen.slice(0, 2).sort()).toEqual(['stderr two', 'stdout one']);
  expect(seen.slice(2)).toEqual(['stdout three']);
});

test('a loop that is killed at random ends with the result that it has undisturbed', { timeout }, async () => {
  const report = await killAtRandom({ kills: 12, seed: 20 });
  expect(report.result).toEqual(report.undisturbed);
  expect(report.kills).toBe(12);
  expect(report.starts).toBeGreaterThan(12);
  expect(report.leftAlive).toEqual([]);
});
