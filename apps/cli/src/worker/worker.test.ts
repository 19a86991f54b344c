import { WorkerState } from '@baton/contract';
import { expect, test } from 'vitest';
import { commandLine } from '../testing.fixture.ts';

test('list shows state, load and simulated GPUs as such', async () => {
  const { baton, fake } = await commandLine();
  fake.addWorker({
    name: 'worker-1',
    state: WorkerState.BUSY,
    leases: 2,
    lastHeard: { seconds: 3n },
    capabilities: { slots: 8, taskClasses: [1, 3], hostname: 'box', pid: 7, gpus: [{ uuid: 'G', simulated: true }] },
    metrics: { cpuPercent: 41.6, tasksCompleted: 12n, tasksFailed: 1n },
  });
  const { stdout } = await baton(['worker', 'list']);
  expect(stdout).toMatch(/\nworker-1 +● busy +2 +8 +cpu_short gpu +1 \(simulated\) +42 % +12 +1 +3 s ago +box pid 7\n/);
  expect(JSON.parse((await baton(['worker', 'list', '-o', 'json'])).stdout)).toMatchObject([
    { name: 'worker-1', state: 'busy', leases: 2 },
  ]);
});

test('list shows the default classes of a worker that names none', async () => {
  const { baton, fake } = await commandLine();
  fake.addWorker({ name: 'worker-1', capabilities: { slots: 8 } });
  expect((await baton(['worker', 'list'])).stdout).toMatch(/\nworker-1 .* 8 +cpu_short cpu_long +- /);
});

test('an empty list says how to start one', async () => {
  const { baton } = await commandLine();
  const { stdout, stderr } = await baton(['worker', 'list']);
  expect(stdout).toBe('');
  expect(stderr).toContain('`baton worker`');
});

test('drain says what the worker still holds', async () => {
  const { baton, fake, log } = await commandLine();
  fake.addWorker({ name: 'worker-1', leases: 1 });
  expect((await baton(['worker', 'drain', 'worker-1'])).stdout).toBe('worker worker-1 drains; it still holds 1 task\n');
  expect(JSON.parse((await baton(['worker', 'drain', 'worker-1', '-o', 'json'])).stdout)).toEqual({
    name: 'worker-1',
    leases: 1,
  });
  expect(await log()).toMatchObject([{ command: 'worker drain', worker: 'worker-1' }, {}]);
});
