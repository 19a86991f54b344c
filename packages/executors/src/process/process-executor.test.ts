import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FailureType } from '@baton/contract';
import { TaskStopped } from '@baton/runtime';
import { expect, onTestFinished, test, vi } from 'vitest';
import { outputOf } from '../testing/attempt.ts';
import { openProcessStage } from '../testing/processes.ts';
import { findCgroupHome, listCgroups } from './cgroup.ts';
import { processExecutor } from './process-executor.ts';
import { readStat } from './process-table.ts';
import { directoryPrefix, ownOwner } from './tag.ts';

const failureOf = async (outcome: unknown) => {
  const settled = (await outcome) as { kind: string; failure?: { type: FailureType; message: string } };
  if (settled.kind !== 'failure') expect.fail(`not a failure: ${JSON.stringify(settled)}`);
  return { ...settled.failure!, type: FailureType[settled.failure!.type] };
};

test('words reach the program as they are: no shell reads them', async () => {
  const stage = openProcessStage();
  const words = ['$(touch /tmp/x)', '; rm -rf /', '--flag', '`id`', '', 'a b', '*', "'", '\n'];
  const { outcome } = stage.run({
    command: ['python3', '-c', 'import json, sys; print(json.dumps(sys.argv[1:]))', ...words],
    output: 'stdout_json',
  });
  expect(outputOf(await outcome)).toEqual(words);
});

test('the input is a file, and the standard input where that is asked for', async () => {
  const stage = openProcessStage();
  const input = { text: 'žluť', n: 1 };
  const both = stage.bash('cat; cat "$BATON_INPUT_FILE"', { output: 'stdout', stdin: true }, input);
  expect(outputOf(await both.outcome)).toBe(JSON.stringify(input).repeat(2));
  const none = stage.bash('cat; echo end', { output: 'stdout' }, input);
  expect(outputOf(await none.outcome)).toBe('end\n');
});

test.for([
  ['nothing said', 'true', {}, null],
  ['a file', 'echo "{\\"a\\":1}" >"$BATON_OUTPUT_FILE"', {}, { a: 1 }],
  ['a file of bytes', 'printf "\\0\\1" >"$BATON_OUTPUT_FILE"', { outputBytes: true }, new Uint8Array([0, 1])],
  ['the last line', 'echo noise; echo "[1, 2]"; echo', { output: 'stdout_json' }, [1, 2]],
  ['by a message', 'echo \'{"type":"result","value":{"b":2}}\' >&4', {}, { b: 2 }],
  [
    'by a message that names a file',
    'echo 7 >r; cp r "$BATON_TASK_DIRECTORY/r"; echo \'{"type":"result","file":"r"}\' >&4',
    {},
    7,
  ],
] as const)('its output: %s', async ([, script, settings, expected]) => {
  const stage = openProcessStage();
  const output = outputOf(await stage.bash(script, settings).outcome);
  expect(output instanceof Uint8Array ? new Uint8Array(output) : output).toEqual(expected);
});

test.for([
  ['no such program', ['no-such-program'], 'EVALUATION_ERROR', /no program "no-such-program"/],
  ['a missing file', ['bash', '-c', 'exit 0'], 'EVALUATION_ERROR', /no file "output"/, { output: 'file' }],
  ['no JSON', ['echo', 'nothing of the kind'], 'EVALUATION_ERROR', /output cannot be taken/, { output: 'stdout_json' }],
  ['an exit code', ['bash', '-c', 'echo why >&2; exit 3'], 'EVALUATION_ERROR', /^it exited with code 3\nwhy$/],
  ['a signal', ['bash', '-c', 'kill -SEGV $$'], 'EVALUATION_ERROR', /SIGSEGV/],
  ['SIGKILL of somebody', ['bash', '-c', 'kill -KILL $$'], 'UNKNOWN', /SIGKILL, by somebody else/],
  ['137', ['bash', '-c', 'exit 137'], 'OUT_OF_MEMORY', /137/],
  ['a link that leads out', ['bash', '-c', 'ln -s /etc/passwd "$BATON_OUTPUT_FILE"'], 'EVALUATION_ERROR', /leads out/],
  [
    'a path that leads out',
    ['bash', '-c', 'echo \'{"type":"result","file":"../../../etc/passwd"}\' >&4'],
    'EVALUATION_ERROR',
    /outside/,
  ],
] as const)('a failure: %s', async ([, command, type, message, settings = {}]) => {
  const stage = openProcessStage();
  const failure = await failureOf(stage.run({ command: [...command], ...settings }).outcome);
  expect(failure).toMatchObject({ type, message: expect.stringMatching(message) });
});

test('a Python exception keeps its class, message and stack; an exit code may be for good', async () => {
  const stage = openProcessStage();
  const code = 'def f():\n  raise ValueError("odd: 3")\nf()';
  expect(await failureOf(stage.run(['python3', '-c', code]).outcome)).toMatchObject({
    type: 'EVALUATION_ERROR',
    exceptionType: 'ValueError',
    message: 'odd: 3 (it exited with code 1)',
    stack: expect.stringContaining('in f'),
    nonRetryable: false,
  });
  expect(await failureOf(stage.run(['python3', '-c', 'x = bytearray(1 << 60)']).outcome)).toMatchObject({
    type: 'OUT_OF_MEMORY',
    exceptionType: 'MemoryError',
  });
  const permanent = { command: ['bash', '-c', 'exit 64'], permanentExitCodes: [64] };
  expect(await failureOf(stage.run(permanent).outcome)).toMatchObject({ nonRetryable: true });
});

test('nothing of the worker’s own environment reaches it but what every program finds, what was asked for, and no GPU', async () => {
  const stage = openProcessStage();
  process.env.BATON_TEST_SECRET = 'x';
  const { outcome } = stage.run({ command: ['env', '-0'], output: 'stdout' }, undefined, { env: { A: 'b' } });
  delete process.env.BATON_TEST_SECRET;
  const names = (outputOf(await outcome) as string).split('\0').filter(Boolean).sort();
  expect(names.map((line) => line.split('=')[0])).toEqual([
    'A',
    'BATON_ARTIFACTS_IN',
    'BATON_ARTIFACTS_OUT',
    'BATON_INPUT_FILE',
    'BATON_OUTPUT_FILE',
    'BATON_TASK_ATTEMPT',
    'BATON_TASK_DIRECTORY',
    'BATON_TASK_EPOCH',
    'BATON_TASK_FD_IN',
    'BATON_TASK_FD_OUT',
    'BATON_TASK_ID',
    'BATON_TASK_KIND',
    'BATON_TASK_PROTOCOL',
    'BATON_TASK_TAG',
    'CUDA_DEVICE_ORDER',
    'CUDA_VISIBLE_DEVICES',
    'HOME',
    'LANG',
    'PATH',
    'PWD',
    'PYTHONPATH',
    'TMPDIR',
  ]);
  expect(names).toContain('CUDA_VISIBLE_DEVICES=');
});

test('a task with devices sees these, by UUID', async () => {
  const stage = openProcessStage();
  const more = { devices: ['GPU-aa', 'GPU-bb'], env: { CUDA_VISIBLE_DEVICES: 'all' } };
  const { outcome } = stage.bash('echo "\\"$CUDA_VISIBLE_DEVICES\\""', { output: 'stdout_json' }, undefined, more);
  expect(outputOf(await outcome)).toBe('GPU-aa,GPU-bb');
});

test('it works in a directory of its own, which goes with it, or in the one that was asked for', async () => {
  const stage = openProcessStage();
  const own = outputOf(await stage.bash('touch x; pwd', { output: 'stdout' }).outcome) as string;
  expect(own).toContain(stage.directory);
  expect(existsSync(own.trim())).toBe(false);
  const given = stage.bash('pwd', { output: 'stdout' }, undefined, { workingDirectory: stage.directory });
  expect(outputOf(await given.outcome)).toBe(`${stage.directory}\n`);
  const missing = stage.bash('true', {}, undefined, { workingDirectory: '/no/such/place' });
  expect(await failureOf(missing.outcome)).toMatchObject({ exceptionType: 'NoWorkingDirectory' });
});

test('directories that a killed worker left over are removed when the next one starts; those of living workers stay', async () => {
  const stage = openProcessStage();
  const root = join(stage.directory, 'others');
  const own = ownOwner();
  const [dead, living] = [
    join(root, `${directoryPrefix({ ...own, startTicks: 1 })}x`),
    join(root, `${directoryPrefix(own)}y`),
  ];
  for (const path of [dead, living]) mkdirSync(join(path, 'work'), { recursive: true });
  const next = processExecutor({ variables: {}, directory: root });
  onTestFinished(() => next.close?.());
  await next.ready?.();
  await vi.waitUntil(() => !existsSync(dead), { timeout: 20_000 });
  expect(existsSync(living)).toBe(true);
});

const escapes: Readonly<Record<string, string>> = {
  'a child in the background': 'sleep 1000 & ',
  'a child of a child in a session of its own': '(setsid bash -c "sleep 1001 & sleep 1002" &); ',
  'a child that ignores every signal it can':
    '(setsid bash -c \'trap "" TERM HUP INT QUIT; while :; do sleep 1003; done\' >/dev/null 2>&1 &); ',
  'a child that closed everything': '(setsid bash -c "exec 0<&- 1>&- 2>&- 3>&-; sleep 1004" &); ',
};

test.for(Object.entries(escapes))('the whole tree is dead when a task has ended: %s', async ([, script]) => {
  const stage = openProcessStage();
  const { outcome } = stage.bash(`${script} sleep 0.1; touch "$STAGE/done"`);
  expect(await outcome).toMatchObject({ kind: 'success' });
  expect(stage.alive(`STAGE=${stage.directory}\0`)).toEqual([]);
  const home = findCgroupHome();
  expect(home === undefined ? [] : listCgroups(home).filter((name) => name.includes(`.${process.pid}.`))).toEqual([]);
});

test('one that clears its environment and leaves its session is found all the same', async (context) => {
  const stage = openProcessStage();
  if (findCgroupHome() === undefined) context.skip('no cgroup may be made here');
  const { outcome } = stage.bash(
    '(env -i setsid /bin/sleep 1005 & echo $! >"$STAGE/pid") </dev/null >/dev/null 2>&1; sleep 0.1',
  );
  const pid = Number(await stage.file('pid'));
  await outcome;
  // One that nobody waits for may stay as a zombie.
  expect(['Z', undefined]).toContain(readStat(pid)?.state);
});

test('a fork bomb ends with its task', async () => {
  const stage = openProcessStage();
  const { outcome } = stage.bash(
    'f() { while :; do (sleep 5 & setsid sleep 5 &) ; sleep 0.005; done; }; f & f & sleep 0.7',
  );
  await outcome;
  expect(stage.alive(`STAGE=${stage.directory}\0`)).toEqual([]);
});

test('asked to stop it has its grace; then it is killed', async () => {
  const stage = openProcessStage();
  const polite = stage.bash(
    'trap "echo bye; touch $STAGE/bye; exit 0" TERM; touch "$STAGE/up"; while :; do sleep 0.05; done',
  );
  await vi.waitUntil(() => existsSync(join(stage.directory, 'up')), { timeout: 20_000 });
  polite.abort.abort(new TaskStopped('hand-back', 'the worker stops'));
  await polite.outcome;
  expect(existsSync(join(stage.directory, 'bye'))).toBe(true);

  const stubborn = stage.bash('trap "" TERM; touch "$STAGE/up2"; while :; do sleep 0.05; done', { stopGraceMs: 300 });
  await vi.waitUntil(() => existsSync(join(stage.directory, 'up2')), { timeout: 20_000 });
  const from = performance.now();
  stubborn.abort.abort(new TaskStopped('cancel', 'not wanted'));
  expect(await stubborn.outcome).toEqual({ kind: 'cancelled' });
  expect(performance.now() - from).toBeGreaterThan(290);
  expect(stage.alive(`STAGE=${stage.directory}\0`)).toEqual([]);
});

test('a lost lease is the end at once', async () => {
  const stage = openProcessStage();
  const { outcome, abort } = stage.bash('trap "" TERM; touch "$STAGE/up"; while :; do sleep 0.05; done');
  await vi.waitUntil(() => existsSync(join(stage.directory, 'up')), { timeout: 20_000 });
  const from = performance.now();
  abort.abort(new TaskStopped('lost', 'another has it'));
  expect(await outcome).toEqual({ kind: 'cancelled' });
  expect(performance.now() - from).toBeLessThan(2_000);
  expect(stage.alive(`STAGE=${stage.directory}\0`)).toEqual([]);
});

test('more memory than it may have, in all its processes together, is OUT_OF_MEMORY', async () => {
  const stage = openProcessStage();
  const code = 'import os, time\nos.fork()\nx = bytearray(60 << 20)\ntime.sleep(20)';
  const { outcome } = stage.run({ command: ['python3', '-c', code], memoryBytes: 100n << 20n });
  expect(await failureOf(outcome)).toMatchObject({ type: 'OUT_OF_MEMORY', exceptionType: 'MemoryLimit' });
  expect(stage.alive(`STAGE=${stage.directory}\0`)).toEqual([]);
  const fits = stage.run({ command: ['python3', '-c', 'x = bytearray(20 << 20)'], memoryBytes: 100n << 20n });
  expect(await fits.outcome).toMatchObject({ kind: 'success' });
});

test('more processor time than it may have is TASK_TIMEOUT', async () => {
  const stage = openProcessStage();
  const { outcome } = stage.bash('while :; do :; done & while :; do :; done', { cpuTimeMs: 400 });
  expect(await failureOf(outcome)).toMatchObject({ type: 'TASK_TIMEOUT', exceptionType: 'CpuTimeLimit' });
});

test('its lines are logged as they come, by stream', async () => {
  const stage = openProcessStage();
  const seen: string[] = [];
  const { outcome } = stage.bash(
    'echo one; echo two >&2; while [ ! -e "$STAGE/go" ]; do sleep 0.02; done; echo three',
    {},
    undefined,
    {
      log: (text, stream) => seen.push(`${stream} ${text}`),
    },
  );
  await vi.waitUntil(() => seen.length === 2, { timeout: 20_000 });
  expect(seen.toSorted()).toEqual(['stderr two', 'stdout one']);
  writeFileSync(join(stage.directory, 'go'), '');
  await outcome;
  expect(seen.at(-1)).toBe('stdout three');
});

test('100 MB of output cost no memory: what is beyond the limit is counted, and reading waits for the log', async () => {
  const stage = openProcessStage();
  let bytes = 0;
  let lines = 0;
  let waits = 0;
  let last = '';
  const before = process.memoryUsage().rss;
  let most = before;
  const { outcome } = stage.bash(
    'yes 0123456789012345678901234567890123456789012345678 | head -c 100000000',
    { maxLogBytes: 4_000_000n },
    undefined,
    {
      log: (text) => {
        bytes += text.length + 1;
        lines++;
        last = text;
      },
      logRoom: () => {
        most = Math.max(most, process.memoryUsage().rss);
        return waits++ % 20 === 0 ? new Promise((resolve) => setTimeout(resolve, 1)) : undefined;
      },
    },
  );
  await outcome;
  expect(waits).toBeGreaterThan(100);
  expect(lines).toBe(80_001);
  expect(bytes).toBeLessThan(4_001_000);
  expect(last).toBe('… 1920000 more lines (96000000 bytes) were printed and are not kept');
  expect(most - before).toBeLessThan(60_000_000);
});

test('what a program prints without ever ending a line is shown', async () => {
  const stage = openProcessStage();
  const seen: string[] = [];
  const { outcome, abort } = stage.bash('printf "password: "; sleep 1000', {}, undefined, {
    log: (text) => seen.push(text),
  });
  await vi.waitUntil(() => seen.length > 0, { timeout: 5_000 });
  expect(seen).toEqual(['password: ']);
  abort.abort(new TaskStopped('lost', 'over'));
  await outcome;
});

test('what fails is told with the end of its standard error, however much there was', async () => {
  const stage = openProcessStage();
  const failure = await failureOf(stage.bash('for i in $(seq 20000); do echo "line $i"; done >&2; exit 1').outcome);
  expect(failure.message).toContain('line 20000');
  expect(failure.message.length).toBeLessThan(10_000);
});

test('a bash loop saves where it stands, and goes on from there', async () => {
  const stage = openProcessStage();
  const saved: unknown[] = [];
  const script = readFileSync(new URL('../testing/count.sh', import.meta.url), 'utf8');
  const first = stage.bash(
    script,
    {},
    { to: 3 },
    {
      checkpoint: {
        latest: 0,
        save: (value) => Promise.resolve(saved.push(value)),
        load: () => Promise.resolve(undefined),
      },
    },
  );
  expect(outputOf(await first.outcome)).toEqual({ from: 0, to: 3 });
  expect(saved).toEqual([1, 2, 3]);
  const second = stage.bash(
    script,
    {},
    { to: 5 },
    {
      checkpoint: {
        latest: 3,
        save: (value) => Promise.resolve(saved.push(value)),
        load: <T>() => Promise.resolve(3 as T),
      },
    },
  );
  expect(outputOf(await second.outcome)).toEqual({ from: 3, to: 5 });
  expect(saved).toEqual([1, 2, 3, 4, 5]);
});
