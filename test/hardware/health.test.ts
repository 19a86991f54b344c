import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { WorkerService } from '@baton/contract';
import { useStack } from '@baton/testkit/vitest';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import postgres from 'postgres';
import { expect, test } from 'vitest';
import { hold } from './health.tasks.ts';

const stack = useStack({
  workers: 0,
  tasksModule: new URL('health.tasks.ts', import.meta.url),
  workerEnv: { BATON_HEALTH_INTERVAL_MS: '200', BATON_GATES: 'on', BATON_WORKER_TOOLS: 'node,no-such-tool' },
});
const baton = () => createBaton({ url: stack().url });
const BIN = fileURLToPath(new URL('../../node_modules/.bin/baton', import.meta.url));

/** The command, as a process of its own. */
function command(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [BIN, ...args, '--url', stack().url], { cwd: stack().home }, (error, stdout, stderr) =>
      error ? reject(new Error(stderr)) : resolve(stdout),
    );
  });
}

/** What else this machine does while tests run is none of theirs. */
const LIMITS =
  'open_after_ms=200,cpu_percent=100,memory_percent=100,disk_percent=100,gate_cpu_percent=100,gate_memory_percent=100';

/** A worker on a machine of simulated devices; `faults` replaces what ails them from now on. */
async function simulated(name: string, count: number, env: Record<string, string> = {}) {
  const file = join(stack().home, `${name}.json`);
  const faults = (...all: object[]) =>
    writeFileSync(file, JSON.stringify({ gpus: [{ count, model: 'H100', memory_gib: 80 }], faults: all }));
  faults();
  const worker = await stack().addWorker({
    name,
    env: { BATON_SIMULATED_GPUS: file, BATON_HEALTH: LIMITS, ...env },
  });
  const healthOf = async () => (await baton().workers.get(name)).worker.health;
  return { worker, faults, healthOf };
}

/** Heartbeats are half a second apart, and this machine may be busy. */
const soon = { timeout: 15_000, interval: 100 };

const runs = async (tags: string[]) =>
  (await baton().submit({ kind: 'here', input: null, tags })).result({ timeoutMs: 20_000 });

test('simulated devices say so wherever they show', async () => {
  const { worker } = await simulated('pretender', 2);
  const { worker: view } = await baton().workers.get('pretender');
  expect(view).toMatchObject({
    taskClasses: ['cpu_short', 'cpu_long', 'gpu'],
    gpus: [
      { uuid: 'SIM-GPU-0', model: 'H100', memoryBytes: 80 * 1024 ** 3, simulated: true },
      { uuid: 'SIM-GPU-1', simulated: true },
    ],
    tools: [{ name: 'node', version: expect.stringMatching(/^\d+\./) }],
  });
  await expect.poll(async () => (await baton().workers.get('pretender')).worker.health?.simulated, soon).toBe(true);
  expect(await command('worker', 'list')).toMatch(/pretender .*2 \(simulated\)/);
  const shown = await command('worker', 'show', 'pretender');
  expect(shown).toMatch(/SIM-GPU-1 \(simulated\) +H100 +80\.0 GiB/);
  expect(shown).toContain('its devices are simulated');
  const service = createClient(WorkerService, createConnectTransport({ httpVersion: '1.1', baseUrl: worker.url }));
  const status = await service.getStatus({});
  expect(status).toMatchObject({
    capabilities: { gpus: [{ simulated: true }, { simulated: true }] },
    health: { simulated: true, deviceSource: 'simulated', gpus: [{ simulated: true }, { simulated: true }] },
  });
  await expect.poll(async () => (await service.getHealthHistory({})).samples.length, soon).toBeGreaterThan(2);
  expect(worker.log).toMatch(/the devices are simulated/);
}, 60_000);

test('one bad device after the other is quarantined with its reason, the machine works on, and they come back', async () => {
  const { faults, healthOf, worker } = await simulated('ward', 4, { BATON_WORKER_TAGS: 'ward' });
  const usable = async () => (await healthOf())?.gpus.map((gpu) => gpu.usable);
  const codes = async () => (await healthOf())?.issues.map(({ code, device }) => `${code} ${device}`);
  await expect.poll(usable, soon).toEqual([true, true, true, true]);

  faults({ gpu: 0, temperature_c: 97 });
  await expect.poll(codes, soon).toEqual(['GPU_TEMPERATURE SIM-GPU-0']);
  faults({ gpu: 0, temperature_c: 97 }, { gpu: 1, lost: true });
  await expect.poll(codes, soon).toEqual(['GPU_TEMPERATURE SIM-GPU-0', 'GPU_LOST SIM-GPU-1']);
  faults({ gpu: 1, lost: true }, { gpu: 2, xid: 31 }, { gpu: 3, process: { pid: 4711, memory_gib: 70 } });
  await expect.poll(codes, soon).toEqual(['GPU_LOST SIM-GPU-1', 'GPU_ORPHAN_MEMORY SIM-GPU-3']);
  // An XID of an application is noted, and quarantines nothing; memory that others hold closes the gate of that device.
  await expect.poll(usable, soon).toEqual([true, false, true, false]);
  expect((await healthOf())?.gpus[2]?.xids).toMatchObject([{ xid: 31, kind: 'application' }]);
  expect((await healthOf())?.gates).toMatchObject([{ code: 'GPU_MEMORY', device: 'SIM-GPU-3' }]);

  expect(await runs(['ward'])).toBe(worker.pid);
  expect(await command('worker', 'show', 'ward')).toMatch(
    /SIM-GPU-1 .*✗ it does not answer: GPU is lost \(simulated\)/,
  );
  const metrics = await (await fetch(`${stack().url}/metrics`)).text();
  expect(metrics).toMatch(/baton_worker_healthy\{namespace="default",worker="ward"\} 0/);
  expect(metrics).toMatch(/baton_gpu_usable\{namespace="default",worker="ward",gpu="SIM-GPU-1",simulated="true"\} 0/);

  faults({ gpu: 2, xid: 79 });
  await expect.poll(codes, soon).toEqual(['GPU_XID SIM-GPU-2']);
  await expect.poll(usable, soon).toEqual([true, true, false, true]);

  // Kept for charts, and for people with SQL.
  const { history } = await baton().workers.get('ward', { historyMinutes: 60 });
  expect(history.at(-1)).toMatchObject({ healthy: false, gpus: [{ uuid: 'SIM-GPU-0' }, {}, {}, {}] });
  expect(history.flatMap((minute) => minute.issues)).toEqual(
    expect.arrayContaining(['GPU_TEMPERATURE', 'GPU_LOST', 'GPU_ORPHAN_MEMORY']),
  );
  expect(await command('worker', 'health', 'ward')).toMatch(/✗ .*GPU_LOST/);
  const sql = postgres(stack().databaseUrl, { max: 1, fetch_types: false });
  const [row] = await sql`select healthy, issues from baton.v_workers where name = 'ward'`;
  await sql.end();
  expect(row).toMatchObject({ healthy: false, issues: [{ code: 'GPU_XID', device: 'SIM-GPU-2' }] });
}, 60_000);

test("memory of a lease is nobody else's while it lasts; what it leaves behind keeps the next one away until it is gone", async () => {
  const { faults, healthOf, worker } = await simulated('orphanage', 1, {
    BATON_WORKER_TAGS: 'orphanage',
    BATON_HEALTH: `${LIMITS},orphan_grace_ms=300`,
  });
  const usable = async () => (await healthOf())?.gpus.map((gpu) => gpu.usable);
  await expect.poll(usable, soon).toEqual([true]);
  const resources = { gpus: 1, cpus: 0, memoryGib: 0 };
  const first = await baton().enqueue(hold, 5_000, { tags: ['orphanage'], resources });
  await expect.poll(async () => (await first.status()).state, soon).toBe('leased');
  // 70 of 80 GiB: without the lease it would close the device's gate.
  faults({ gpu: 0, process: { pid: 4711, memory_gib: 70 } });
  // Of the worker itself: the master keeps values that change no verdict only now and then.
  const service = createClient(WorkerService, createConnectTransport({ httpVersion: '1.1', baseUrl: worker.url }));
  await expect.poll(async () => (await service.getStatus({})).health?.gpus[0]?.processes.length, soon).toBe(1);
  expect((await service.getStatus({})).health).toMatchObject({ healthy: true, gates: [], gpus: [{ usable: true }] });
  await first.result();

  await expect.poll(usable, soon).toEqual([false]);
  expect((await healthOf())?.issues).toMatchObject([
    { code: 'GPU_ORPHAN_MEMORY', device: 'SIM-GPU-0', message: 'left behind by a lease: process 4711 with 70.00 GiB' },
  ]);
  const next = await baton().enqueue(hold, 1, { tags: ['orphanage'], resources });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect((await next.status()).state).toBe('ready');
  faults();
  expect(await next.result()).toBe(1);
}, 60_000);

test('a driver that hangs blocks no heartbeat and no task, and its devices are unknown until it answers', async () => {
  const { faults, healthOf, worker } = await simulated('stuck', 1, { BATON_WORKER_TAGS: 'stuck' });
  await expect.poll(async () => (await healthOf())?.healthy, soon).toBe(true);
  const session = (await baton().workers.get('stuck')).worker.sessionId;
  faults({ hang: true });
  const seen = { heardMs: 0 };
  await expect
    .poll(
      async () => {
        const { worker: view } = await baton().workers.get('stuck');
        seen.heardMs = Math.max(seen.heardMs, view.lastHeardMs ?? Number.POSITIVE_INFINITY);
        return view.health?.issues.map((issue) => issue.code);
      },
      { timeout: 20_000, interval: 200 },
    )
    .toEqual(['GPU_DRIVER']);
  expect((await healthOf())?.gpus[0]).toMatchObject({ known: false, usable: false, temperatureC: undefined });
  expect(await runs(['stuck'])).toBe(worker.pid);
  // Leases are 3 s here, heartbeats half a second apart: the driver was waited for 5 s, and nobody noticed.
  expect(seen.heardMs).toBeLessThan(3_000);
  expect((await baton().workers.get('stuck')).worker.sessionId).toBe(session);
  faults();
  await expect.poll(async () => (await healthOf())?.healthy, { timeout: 20_000 }).toBe(true);
}, 60_000);

test('a driver that hangs when the worker starts does not hold it up, and the devices are announced when they are known', async () => {
  const file = join(stack().home, 'late.json');
  const script = (faults: object[]) => writeFileSync(file, JSON.stringify({ gpus: '1xH100:80', faults }));
  script([{ hang: true }]);
  const begun = performance.now();
  await stack().addWorker({ name: 'late', env: { BATON_SIMULATED_GPUS: file } });
  expect(performance.now() - begun).toBeLessThan(15_000);
  expect((await baton().workers.get('late')).worker.gpus).toEqual([]);
  script([]);
  await expect.poll(async () => (await baton().workers.get('late')).worker.gpus.length, { timeout: 20_000 }).toBe(1);
}, 60_000);

test('a closed gate stops new work, and `task why` says so; what the machine has besides goes on', async () => {
  // Nobody's memory is less in use than this.
  await stack().addWorker({
    name: 'gated',
    env: { BATON_WORKER_TAGS: 'gated', BATON_HEALTH: `${LIMITS},gate_memory_percent=0,slack=0,close_after_ms=0` },
  });
  await expect
    .poll(async () => (await baton().workers.get('gated')).worker.health?.gates.map((gate) => gate.code), soon)
    .toEqual(['MEMORY']);
  const handle = await baton().submit({ kind: 'here', input: null, tags: ['gated'] });
  await expect
    .poll(
      async () => (await baton().tasks.explain(handle.id)).blockers.map(({ reason, worker }) => [reason, worker]),
      soon,
    )
    .toEqual([['GATE_CLOSED', 'gated']]);
  expect(await command('task', 'why', handle.id)).toMatch(/others than its own tasks use .* % of its memory/);
  await handle.cancel();
}, 60_000);

test('a machine that is critical for long enough drains its worker, which says why', async () => {
  const worker = await stack().addWorker({
    name: 'full',
    env: { BATON_HEALTH: `${LIMITS},disk_percent=0,close_after_ms=0,drain_after_ms=8000` },
  });
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  expect(worker.log).toMatch(/% of its disk is in use/);
  expect((await baton().workers.get('full')).worker.state).toBe('stopped');
}, 60_000);
