import { BreakerState, WorkerState } from '@baton/contract';
import { Code, ConnectError } from '@connectrpc/connect';
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
  expect(stdout).toMatch(
    /\nworker-1 +● busy +- +- +2 +8 +cpu_short gpu +1 \(simulated\) +42 % +12 +1 +3 s ago +box pid 7\n/,
  );
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

test('logs of a worker that is gone, or serves nothing, are refused with the way to them', async () => {
  const { baton, fake } = await commandLine();
  fake.addWorker({ name: 'silent' });
  fake.addWorker({ name: 'gone', state: WorkerState.STOPPED, serviceUrl: 'http://127.0.0.1:1' });
  const silent = await baton(['worker', 'logs', 'silent']);
  expect(silent.stderr).toContain('BATON_WORKER_PORT');
  expect(silent.exitCode).not.toBe(0);
  expect((await baton(['worker', 'logs', 'gone', '-f'])).stderr).toContain('worker gone is stopped');
  expect((await baton(['worker', 'logs', 'gone', '--recent', '10001'])).stderr).toContain('from 0 to 10000');
});

test('list shows which workers and devices are held back, and goes on without that under an older master', async () => {
  const { baton, fake } = await commandLine();
  fake.addWorker({ name: 'w1' });
  fake.addWorker({ name: 'w2' });
  fake.addBreaker({ worker: 'w1', state: BreakerState.OPEN });
  fake.addBreaker({ worker: 'w1', device: 'GPU-a', state: BreakerState.HALF_OPEN });
  const { stdout } = await baton(['worker', 'list']);
  expect(stdout).toMatch(/\nw1 .*⊘ open, 1 of its devices/);
  expect(stdout).toMatch(/\nw2 +\S+ \S+ +- +- +0 /);
  expect(JSON.parse((await baton(['worker', 'list', '-o', 'json'])).stdout)).toMatchObject([
    { breakers: [{ state: 'open' }, { state: 'half_open', device: 'GPU-a' }] },
    { breakers: [] },
  ]);
  fake.failNext('listBreakers', new ConnectError('not there', Code.Unimplemented));
  expect((await baton(['worker', 'list'])).stdout).toContain('w1');
});

test('breakers are listed with when a probe may run, and reset by name and device', async () => {
  const { baton, fake, log } = await commandLine();
  expect((await baton(['worker', 'breakers'])).stderr).toContain('no breaker is open');
  fake.addBreaker({
    worker: 'w1',
    state: BreakerState.OPEN,
    reason: '3 failures',
    failures: 3,
    probeTime: { seconds: 5n },
  });
  fake.addBreaker({ worker: 'w2', device: 'GPU-a', state: BreakerState.CLOSED });
  expect((await baton(['worker', 'breakers'])).stdout).toMatch(
    /\nw1 +- +⊘ open .* 1970-\S+ \S+ +- +0 +3 +3 failures\n$/,
  );
  expect((await baton(['worker', 'breakers', '--all'])).stdout).toMatch(/\nw2 +GPU-a +● closed/);
  expect((await baton(['worker', 'reset', 'w1'])).stdout).toBe('the breaker of worker w1 is closed; it was open\n');
  expect((await baton(['worker', 'reset', 'w2', '--device', 'GPU-a', '-o', 'json'])).stdout).toContain(
    '"before": "closed"',
  );
  expect((await baton(['worker', 'reset', 'w9'])).exitCode).toBe(3);
  expect((await log()).slice(0, 2)).toMatchObject([
    { command: 'worker reset', worker: 'w1', before: 'open' },
    { command: 'worker reset', device: 'GPU-a' },
  ]);
});
