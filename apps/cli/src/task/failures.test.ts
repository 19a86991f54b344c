import { failureTypeNames } from '@baton/client';
import { AttemptState, FailureType, TaskState } from '@baton/contract';
import { expect, test } from 'vitest';
import { type CommandLine, commandLine } from '../testing.fixture.ts';
import { FAILURE_TYPES } from './failure-commands.ts';

async function withDead(...types: FailureType[]): Promise<CommandLine & { ids: string[] }> {
  const line = await commandLine();
  const ids: string[] = [];
  for (const type of types) {
    const { stdout } = await line.baton(['task', 'submit', 'resize', '-o', 'json']);
    const id = String(JSON.parse(stdout).id);
    line.fake.failTask(id, { type, message: 'no more' }, 4);
    ids.push(id);
  }
  return { ...line, ids };
}

test('the types of failures are those of the client', () => {
  expect(FAILURE_TYPES).toEqual(failureTypeNames);
});

test('dead lists what failed for good, by type, and --all also what was sent again', async () => {
  const { baton, ids } = await withDead(FailureType.UNKNOWN, FailureType.GPU_ERROR);
  expect((await baton(['task', 'dead'])).stdout).toMatch(
    /\n2 +resize +default +4 .* GPU_ERROR +no more\n1 +resize .* UNKNOWN +no more\n$/,
  );
  expect((await baton(['task', 'dead', '--type', 'GPU_ERROR,OUT_OF_MEMORY'])).stdout).not.toContain('UNKNOWN');
  await baton(['task', 'resend', ids[0]!]);
  expect(JSON.parse((await baton(['task', 'dead', '-o', 'json'])).stdout)).toMatchObject([{ task: { id: ids[1] } }]);
  expect((await baton(['task', 'dead', '--all'])).stdout).toMatch(/\n1 +resize .* UNKNOWN +3 +no more\n/);
  expect((await baton(['task', 'dead', '--kind', 'other'])).stderr).toContain('failed for good');
});

test('resend says what each became, once for all, and ends with 1 when one was refused', async () => {
  const { baton, fake, ids, log } = await withDead(FailureType.UNKNOWN);
  expect(await baton(['task', 'resend', ids[0]!])).toMatchObject({
    stdout: `task ${ids[0]} is sent again as 2\n`,
    exitCode: 0,
  });
  expect((await baton(['task', 'resend', ids[0]!])).stdout).toBe(`task ${ids[0]} is sent again as 2, as before\n`);
  expect(fake.task('2')).toMatchObject({ retryOf: ids[0], state: TaskState.READY });
  const refused = await baton(['task', 'resend', ids[0]!, '2']);
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain('1 of 2 tasks');
  expect((await log()).some((line) => line.command === 'task resend' && line.sent === 1)).toBe(true);
});

test('resend --all-dead takes those of a filter, and no ids beside', async () => {
  const { baton } = await withDead(FailureType.UNKNOWN, FailureType.GPU_ERROR, FailureType.GPU_ERROR);
  const { stdout } = await baton(['task', 'resend', '--all-dead', '--type', 'GPU_ERROR', '-o', 'json']);
  expect(JSON.parse(stdout)).toMatchObject([
    { of: '3', taskId: '4' },
    { of: '2', taskId: '5' },
  ]);
  expect((await baton(['task', 'resend', '--all-dead', '--type', 'GPU_ERROR'])).stderr).toContain('failed for good');
  for (const wrong of [
    ['task', 'resend'],
    ['task', 'resend', '1', '--all-dead'],
    ['task', 'resend', '1', '--queue', 'x'],
  ])
    expect((await baton(wrong)).exitCode).toBe(64);
});

test('resend --all-dead twice sends nothing twice: what failed again needs --again', async () => {
  const { baton, fake } = await withDead(FailureType.UNKNOWN, FailureType.UNKNOWN);
  await baton(['task', 'resend', '--all-dead']);
  for (const id of ['3', '4']) fake.failTask(id, { type: FailureType.UNKNOWN, message: 'no more' }, 4);
  const second = await baton(['task', 'resend', '--all-dead']);
  expect(second).toMatchObject({
    exitCode: 0,
    stdout: '',
    stderr: expect.stringContaining('2 tasks were sent again before'),
  });
  const third = await baton(['task', 'resend', '--all-dead', '--again', '-o', 'json']);
  expect(JSON.parse(third.stdout)).toMatchObject([
    { of: '4', taskId: '5' },
    { of: '3', taskId: '6' },
  ]);
  expect((await baton(['task', 'resend', '1', '--again'])).exitCode).toBe(64);
});

test('failures are listed with their device and where the task stands now; stats count them', async () => {
  const { baton, fake } = await commandLine();
  expect((await baton(['task', 'failures'])).stderr).toContain('nothing of the kind');
  fake.addFailure({
    taskId: '7',
    kind: 'train',
    attempt: 2,
    worker: 'w1',
    attemptState: AttemptState.FAILED,
    taskState: TaskState.BACKOFF,
    failure: { type: FailureType.GPU_ERROR, message: 'Xid 79', device: 'GPU-a' },
  });
  fake.addFailure({
    taskId: '8',
    worker: 'w2',
    taskState: TaskState.SUCCEEDED,
    failure: { type: FailureType.WORKER_CRASH },
  });
  expect((await baton(['task', 'failures', '--worker', 'w1'])).stdout).toMatch(
    /GPU_ERROR +7 +train +2 +w1 +GPU-a +↻ backoff +Xid 79\n$/,
  );
  expect(JSON.parse((await baton(['task', 'failures', '-t', 'WORKER_CRASH', '-o', 'json'])).stdout)).toMatchObject([
    { taskId: '8' },
  ]);
  const { stdout } = await baton(['task', 'stats', '--since', '24h']);
  expect(stdout).toMatch(/^2 failures of 2 tasks on 2 workers: .*; 0 breakers open\n/);
  expect(stdout).toMatch(/GPU_ERROR +1\n/);
});
