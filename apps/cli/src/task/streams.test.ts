import { AttemptState, FailureType, TaskState } from '@baton/contract';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

test('output: bytes as they are for a pipe, harmless text for a terminal, base64 for JSON', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'stream']);
  fake.addOutput('1', 'red \u001b[31mtext\r\nand ');
  fake.addOutput('1', 'more');
  expect((await baton(['task', 'output', '1'])).stdout).toBe('red \u001b[31mtext\r\nand more');
  expect((await baton(['task', 'output', '1'], { columns: 80 })).stdout).toBe('red text \nand more');
  const lines = (await baton(['task', 'output', '1', '-o', 'json'])).stdout.trim().split('\n');
  expect(JSON.parse(lines[1]!)).toMatchObject({ attempt: 1, offset: 19, data: { base64: btoa('more') } });
});

test('output --follow stays until the end; a new attempt is said on stderr', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'stream']);
  fake.addOutput('1', 'half');
  const running = baton(['task', 'output', '1', '--follow']);
  await running.stdout.shows('half');
  fake.addOutput('1', 'whole', 2);
  await running.stdout.shows('whole');
  fake.succeedTask('1', 'null');
  const { exitCode, stdout, stderr } = await running;
  expect([exitCode, stdout]).toEqual([0, 'halfwhole']);
  expect(stderr).toContain('attempt 2 begins anew');
});

test('results: a line for each end; 1 when one did not succeed', async () => {
  const { baton, fake } = await commandLine();
  for (const kind of ['a', 'b']) await baton(['task', 'submit', kind]);
  fake.succeedTask('2', '{"sum":3}');
  const running = baton(['task', 'results', '1', '2']);
  await running.stdout.shows('✓ succeeded  task 2 b');
  fake.failTask('1', { type: FailureType.EVALUATION_ERROR, message: 'no \u001b[2Jfile' });
  const { exitCode, stdout, stderr } = await running;
  expect(exitCode).toBe(1);
  expect(stdout).toContain('{"sum":3}\n✗ failed  task 1 a');
  expect(stdout).toContain('EVALUATION_ERROR: no file');
  expect(stderr).toContain('1 of the tasks did not succeed');
  const json = await baton(['task', 'results', '2', '-o', 'json']);
  expect([json.exitCode, JSON.parse(json.stdout).output]).toEqual([0, { sum: 3 }]);
});

test('history: a table for people, JSON for programs', async () => {
  const { baton, fake } = await commandLine();
  await baton(['task', 'submit', 'k']);
  fake.setHistory('1', [
    { what: 'submitted', state: TaskState.READY, time: timestampFromMs(1_000) },
    {
      what: 'attempt_ended',
      attempt: 1,
      epoch: 2,
      worker: 'w1',
      attemptState: AttemptState.LOST,
      message: 'no heartbeat',
    },
    { what: 'cancel_requested', attempt: 1, epoch: 2, worker: 'w1', message: 'enough\nof it' },
  ]);
  const { stdout } = await baton(['task', 'history', '1']);
  const lines = stdout.trimEnd().split('\n');
  expect(lines[0]).toMatch(/^TIME +WHAT +STATE +ATTEMPT +WORKER +DETAIL/);
  expect(lines[1]).toMatch(/submitted +○ ready +- +- +-$/);
  expect(lines[2]).toMatch(/attempt ended +- +1 \(epoch 2\) +w1 +lost, no heartbeat$/);
  expect(lines[3]).toMatch(/cancel requested .* enough of it$/);
  expect(JSON.parse((await baton(['task', 'history', '1', '-o', 'json'])).stdout).entries).toHaveLength(3);
});
