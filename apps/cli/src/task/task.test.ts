import { taskClassNames, taskStateNames } from '@baton/client';
import { FailureType, TaskState } from '@baton/contract';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';
import { TASK_CLASSES, TASK_STATES } from './command.ts';

test('the words of the flags are those of the contract', () => {
  expect(TASK_CLASSES).toEqual(taskClassNames);
  expect(TASK_STATES).toEqual(taskStateNames);
});

test('submit prints the id alone on stdout; everything that was said is sent', async () => {
  const { baton, fake } = await commandLine();
  const { exitCode, stdout, stderr } = await baton([
    ...['task', 'submit', 'greet', '--input', 'name=Ada', '--input', 'times=3'],
    ...['--queue', 'q', '--class', 'gpu_slurm', '--tag', 'ssd', '--tag', 'eu', '--priority', '-5', '--key', 'once'],
    ...[
      '--timeout',
      '90s',
      '--start-timeout',
      '2m',
      '--progress-timeout',
      '5s',
      '--max-attempts',
      '2',
      '--grpc',
      '127.0.0.1:50051',
      '--method',
      'a.B/C',
    ],
  ]);
  expect([exitCode, stdout]).toEqual([0, '1\n']);
  expect(stderr).toContain('baton task watch 1');
  expect(fake.specs.get('1')).toMatchObject({
    kind: 'greet',
    payload: { case: 'inputJson', value: '{"name":"Ada","times":3}' },
    queue: 'q',
    taskClass: 4,
    tags: ['ssd', 'eu'],
    priority: -5,
    idempotencyKey: 'once',
    startToCloseTimeout: { seconds: 90n },
    scheduleToStartTimeout: { seconds: 120n },
    progressTimeout: { seconds: 5n },
    retry: { maxAttempts: 2 },
    executor: { case: 'grpc', value: { address: '127.0.0.1:50051', method: 'a.B/C' } },
  });
  const again = await baton(['task', 'submit', 'greet', '--key', 'once', '-o', 'json']);
  expect(JSON.parse(again.stdout)).toEqual({ id: '1', deduplicated: true });
});

test('a program is sent as a list of words, with what it finds around it', async () => {
  const { baton, fake } = await commandLine();
  const words = ['python3', 'train.py', 'a b'];
  const around = ['--env', 'A=b=c', '--pass', 'HF_TOKEN', '--directory', '/srv'];
  const sent = await baton(['task', 'submit', 'train', '--process', JSON.stringify(words), ...around]);
  expect(sent.exitCode).toBe(0);
  expect(fake.specs.get('1')).toMatchObject({
    executor: { case: 'process', value: { command: words } },
    environment: { set: { A: 'b=c' }, pass: ['HF_TOKEN'], workingDirectory: '/srv' },
  });
  await baton(['task', 'submit', 'list', '--process', 'ls']);
  expect(fake.specs.get('2')).toMatchObject({ executor: { value: { command: ['ls'] } } });
  for (const wrong of [
    ['--process', '["a", 1]'],
    ['--process', '[]'],
    ['--env', 'A'],
    ['--process', 'a', '--grpc', 'h:1', '--method', 'S/M'],
  ])
    expect((await baton(['task', 'submit', 'x', ...wrong])).exitCode).toBe(64);
});

test('JSON input keeps its digits; a delay is sent as a point in time', async () => {
  const { baton, fake } = await commandLine();
  const before = Date.now();
  await baton(['task', 'submit', 'k', '--input', '{"id":12345678901234567890}', '--delay', '2h']);
  const spec = fake.specs.get('1');
  expect(spec?.payload.value).toBe('{"id":12345678901234567890}');
  expect(Number(spec?.runAt?.seconds) * 1_000).toBeGreaterThanOrEqual(before + 7_200_000 - 1_000);
});

test('submit --wait prints the output: a text as it is, anything else as JSON', async () => {
  const { baton, fake } = await commandLine();
  for (const [output, shown] of [
    ['"Hello, \\u001b[31mAda\\nBye"', 'Hello, Ada\nBye\n'],
    ['{"sum":3}', '{\n  "sum": 3\n}\n'],
  ] as const) {
    const running = baton(['task', 'submit', 'greet', '--wait']);
    while (!fake.calls.includes('waitTasks')) await fake.next();
    fake.calls.length = 0;
    fake.succeedTask(String(fake.specs.size), output);
    expect(await running).toMatchObject({ exitCode: 0, stdout: shown });
  }
});

test('submit --wait ends with 1 when the task failed, saying why', async () => {
  const { baton, fake } = await commandLine();
  const running = baton(['task', 'submit', 'greet', '--wait']);
  while (!fake.calls.includes('waitTasks')) await fake.next();
  fake.failTask('1', { type: FailureType.EVALUATION_ERROR, message: 'no \u001b[2Jfile' }, 4);
  const { exitCode, stdout, stderr } = await running;
  expect([exitCode, stdout]).toEqual([1, '']);
  expect(stderr).toContain('failed after 4 attempts: EVALUATION_ERROR: no file');
});

test('list: a table for people, JSON for programs, filters for both', async () => {
  const { baton } = await commandLine();
  await baton(['task', 'submit', 'first']);
  await baton(['task', 'submit', 'second', '--queue', 'other']);
  const table = await baton(['task', 'list']);
  expect(table.stdout.split('\n')[0]).toMatch(/^TASK +KIND +STATE +QUEUE +ATTEMPT +SUBMITTED +TIME +WORKER/);
  expect(table.stdout).toMatch(/\n2 +second +○ ready +other +0\/4 /);
  const json = JSON.parse((await baton(['task', 'list', '-o', 'json'])).stdout) as { id: string; state: string }[];
  expect(json.map(({ id, state }) => [id, state])).toEqual([
    ['2', 'ready'],
    ['1', 'ready'],
  ]);
  expect(JSON.parse((await baton(['task', 'list', '--queue', 'other', '-o', 'json'])).stdout)).toHaveLength(1);
  expect(JSON.parse((await baton(['task', 'list', '-s', 'failed,cancelled', '-o', 'json'])).stdout)).toEqual([]);
  expect(JSON.parse((await baton(['task', 'list', '-n', '1', '-o', 'json'])).stdout)).toHaveLength(1);
});

test.each([
  ['ready', TaskState.READY, false],
  ['scheduled', TaskState.SCHEDULED, false],
  ['blocked', TaskState.BLOCKED, false],
  ['backoff', TaskState.BACKOFF, true],
])('a task that waits, %s, has no running clock, and a worker only in backoff', async (word, state, hasWorker) => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  const begun = { worker: 'worker-1', attempt: 1, startTime: timestampFromMs(500) };
  fake.updateTask('1', (task) => Object.assign(task, begun, { state: TaskState.LEASED }));
  expect((await baton(['task', 'list'])).stdout).toMatch(/ leased .* 1\.5 s +worker-1\n/);
  fake.updateTask('1', (task) => Object.assign(task, { state }));
  const shown = (await baton(['task', 'list'])).stdout;
  expect(shown).toMatch(new RegExp(` ${word} .* - +${hasWorker ? 'worker-1' : '-'}\n$`));
  const { stdout } = await baton(['task', 'get', '1']);
  expect(stdout).toMatch(/\ntime +-\n/);
  expect(/\nworker +worker-1\n/.test(stdout)).toBe(hasWorker);
});

test('an empty list is said on stderr, with what to do', async () => {
  const { baton } = await commandLine();
  const { exitCode, stdout, stderr } = await baton(['task', 'list']);
  expect([exitCode, stdout]).toEqual([0, '']);
  expect(stderr).toContain('baton task submit');
});

test('names of others cannot rewrite the terminal', async () => {
  const { baton } = await commandLine();
  await baton(['task', 'submit', 'x\u001b[2J\rspoofed\u202e']);
  const { stdout } = await baton(['task', 'list']);
  expect(stdout).toContain('x spoofed ');
  expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
});

test('get shows the task and its attempts', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'greet', '--input', '{"a":1}']);
  fake.failTask('1', { type: FailureType.TASK_TIMEOUT, message: 'too slow' }, 2);
  const { stdout } = await baton(['task', 'get', '1']);
  expect(stdout).toMatch(/state +✗ failed/);
  expect(stdout).toMatch(/input +\{"a":1\}/);
  expect(stdout).toMatch(/\n2 +✗ failed .*TASK_TIMEOUT: too slow/);
  expect(JSON.parse((await baton(['task', 'get', '1', '-o', 'json'])).stdout)).toMatchObject({
    state: 'failed',
    input: { a: 1 },
    attempts: [{ number: 1 }, { number: 2 }],
  });
});

test('watch prints a line for each change and ends as the task does', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  const running = baton(['task', 'watch', '1']);
  await running.stdout.shows('ready');
  fake.updateTask('1', (task) => Object.assign(task, { state: TaskState.LEASED, attempt: 1, worker: 'worker-1' }));
  await running.stdout.shows('leased');
  fake.succeedTask('1', '1');
  const { exitCode, stdout } = await running;
  expect(exitCode).toBe(0);
  expect(stdout.trimEnd().split('\n')).toEqual([
    '○ ready  task 1 greet',
    '● leased  task 1 greet, attempt 1 of 4, on worker-1',
    '✓ succeeded  task 1 greet, attempt 1 of 4, on worker-1',
  ]);
});

test('watch ends with 1 when the task failed or was cancelled', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  await baton(['task', 'submit', 'greet']);
  fake.failTask('1', { type: FailureType.OUT_OF_MEMORY, message: 'killed' });
  const failed = await baton(['task', 'watch', '1', '-o', 'json']);
  expect(failed.exitCode).toBe(1);
  expect(JSON.parse(failed.stdout)).toMatchObject({ state: 'failed', failure: { type: 'OUT_OF_MEMORY' } });
  expect((await baton(['task', 'cancel', '2', '--reason', 'late'])).stdout).toBe('task 2 is cancelled\n');
  const cancelled = await baton(['task', 'watch', '2']);
  expect(cancelled.exitCode).toBe(1);
  expect(cancelled.stderr).toContain('task 2 was cancelled: late');
});

test('cancel of a leased task says that its worker is asked', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  fake.updateTask('1', (task) => Object.assign(task, { state: TaskState.LEASED }));
  expect((await baton(['task', 'cancel', '1'])).stdout).toContain('its worker is asked to stop');
  expect(JSON.parse((await baton(['task', 'cancel', '1', '-o', 'json'])).stdout)).toEqual({ id: '1', state: 'leased' });
});

test('logs are printed cleaned, and followed until the end', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'greet']);
  fake.addLogs('1', 'hello \u001b[31mthere');
  expect((await baton(['task', 'logs', '1'])).stdout).toMatch(/ 1 log +hello there\n$/);
  const running = baton(['task', 'logs', '1', '--follow', '-o', 'json']);
  await running.stdout.shows('hello');
  fake.addLogs('1', 'bye');
  await running.stdout.shows('bye');
  fake.succeedTask('1', '1');
  const lines = (await running).stdout.trimEnd().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { text: string }).text)).toEqual(['hello \u001b[31mthere', 'bye']);
});

test('why says the nearest blocker first, and what would lift each', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'paint']);
  fake.setExplanation('1', {
    state: TaskState.READY,
    summary: 'No living worker can take it; the nearest, w1, lacks the tag ssd.',
    fittingWorkers: 0,
    blockers: [
      { reason: 'MISSING_CAPABILITY', worker: 'w1', missing: ['tag:ssd'], message: 'w1 lacks it', remedy: 'start one' },
      {
        reason: 'MISSING_CAPABILITY',
        worker: 'w2',
        missing: ['tag:ssd', 'kind:paint'],
        message: 'w2 lacks more',
        remedy: 'or so',
      },
    ],
  });
  const { stdout } = await baton(['task', 'why', '1']);
  expect(stdout).toBe(
    [
      '○ ready  No living worker can take it; the nearest, w1, lacks the tag ssd.',
      '',
      'MISSING_CAPABILITY  w1',
      '  missing: tag:ssd',
      '  start one',
      '',
      'MISSING_CAPABILITY  w2',
      '  w2 lacks more',
      '  missing: tag:ssd, kind:paint',
      '  or so',
      '',
    ].join('\n'),
  );
  const told = JSON.parse((await baton(['task', 'why', '1', '-o', 'json'])).stdout);
  expect(told).toMatchObject({
    state: 'ready',
    blockers: [{ reason: 'MISSING_CAPABILITY', missing: ['tag:ssd'] }, {}],
  });
  expect((await baton(['task', 'why', '7'])).exitCode).toBe(3);
});
