import { describe, expect, test } from 'vitest';
import type { Devices, DevicesReading, GpuProcess, GpuReading } from '../devices/reading.ts';
import type { HealthLimits } from './limits.ts';
import type { MachineReading } from './machine-meter.ts';
import { HealthMonitor, type HealthMonitorOptions } from './monitor.ts';

const gib = 1024 ** 3;

function gpu(index: number, values: Partial<GpuReading> = {}): GpuReading {
  return {
    index,
    uuid: `GPU-${index}`,
    model: 'H100',
    memoryBytes: 80 * gib,
    mig: null,
    simulated: false,
    memoryUsedBytes: 0,
    loadPercent: 0,
    temperatureC: 40,
    powerWatts: 70,
    powerLimitWatts: 700,
    eccCorrected: 0,
    eccUncorrected: 0,
    remapFailed: false,
    processes: [],
    xids: [],
    lost: null,
    ...values,
  };
}

const well: MachineReading = {
  cpuPercent: 10,
  foreignCpuPercent: 5,
  memoryPercent: 20,
  foreignMemoryPercent: 10,
  diskPercent: 30,
  networkLatencyMs: 0.2,
  ownPids: new Set([process.pid]),
};

/** A monitor whose machine, devices and clock are told what to say. */
function scene(options: Partial<HealthMonitorOptions> & { limits?: Partial<HealthLimits> } = {}) {
  let nowMs = 0;
  let machine = well;
  let devices: DevicesReading = { state: 'known', source: 'nvml', gpus: [], driverVersion: '550' };
  const fake: Devices = { source: 'nvml', read: async () => structuredClone(devices), close: async () => {} };
  const monitor = new HealthMonitor({
    devices: fake,
    machine: { sample: async () => machine },
    now: () => nowMs,
    ...options,
  });
  return {
    monitor,
    /** So long later both are looked at. */
    async after(ms: number) {
      nowMs += ms;
      await monitor.lookAtMachine();
      await monitor.lookAtDevices();
      return monitor.report;
    },
    machine: (values: Partial<MachineReading>) => {
      machine = { ...well, ...values };
    },
    gpus: (...gpus: GpuReading[]) => {
      devices = { state: 'known', source: 'nvml', gpus, driverVersion: '550' };
    },
    hang: () => {
      devices = { state: 'unknown', source: 'nvml', reason: 'the driver has not answered for 5000 ms' };
    },
  };
}

const codes = (list: readonly { code: string; device: string | null }[]) =>
  list.map(({ code, device }) => (device === null ? code : `${code} ${device}`));

describe('the machine', () => {
  test('a value beyond its limit for a while is an issue, with value and threshold; a moment of it is not', async () => {
    const { after, machine } = scene();
    machine({ diskPercent: 97, memoryPercent: 96, networkLatencyMs: 1_500 });
    expect(await after(0)).toMatchObject({ healthy: true, issues: [] });
    expect((await after(29_000)).issues).toEqual([]);
    const { healthy, issues } = await after(1_000);
    expect(healthy).toBe(false);
    expect(issues).toEqual([
      { code: 'MEMORY', message: '96 % of its memory is in use', value: 96, threshold: 95, device: null },
      { code: 'DISK', message: '97 % of its disk is in use', value: 97, threshold: 95, device: null },
      expect.objectContaining({ code: 'NETWORK_LATENCY', value: 1_500, threshold: 1_000 }),
    ]);
  });

  test('a gate closes for load of others, opens when it is well below, and does not flap between', async () => {
    const { after, machine, monitor } = scene();
    machine({ cpuPercent: 99, foreignCpuPercent: 92, foreignMemoryPercent: 84 });
    await after(0);
    expect(monitor.closedGate).toBeUndefined();
    await after(30_000);
    expect(monitor.closedGate).toMatchObject({ code: 'CPU', value: 92, limit: 90 });
    machine({ foreignCpuPercent: 88 });
    await after(60_000);
    expect(monitor.closedGate).toMatchObject({ code: 'CPU' });
    machine({ foreignCpuPercent: 80 });
    await after(1_000);
    expect(monitor.closedGate).toMatchObject({ code: 'CPU' });
    await after(10_000);
    expect(monitor.closedGate).toBeUndefined();
    machine({ foreignMemoryPercent: 86 });
    await after(0);
    await after(30_000);
    expect(monitor.closedGate).toMatchObject({ code: 'MEMORY', limit: 85 });
  });

  test('what its own tasks use closes no gate', async () => {
    const { after, machine, monitor } = scene();
    machine({ cpuPercent: 100, foreignCpuPercent: 3, memoryPercent: 94, foreignMemoryPercent: 12 });
    await after(0);
    expect(await after(60_000)).toMatchObject({ healthy: true, gates: [] });
    expect(monitor.closedGate).toBeUndefined();
  });

  test('gates that are off never close, and health is told all the same', async () => {
    const { after, machine } = scene({ gates: false });
    machine({ foreignCpuPercent: 99 });
    await after(0);
    expect(await after(60_000)).toMatchObject({ gates: [], issues: [{ code: 'CPU' }] });
  });

  test('critical for long enough, it says so once', async () => {
    const said: string[] = [];
    const { after, machine } = scene({ limits: { drainAfterMs: 60_000 }, onCritical: (reason) => said.push(reason) });
    machine({ diskPercent: 99 });
    await after(0);
    await after(30_000);
    await after(59_000);
    expect(said).toEqual([]);
    await after(1_000);
    await after(60_000);
    expect(said).toEqual(['99 % of its disk is in use']);
  });
});

describe('devices', () => {
  test('one that is too hot is not offered, the others are, and it comes back when it has cooled down for a while', async () => {
    const { after, gpus, monitor } = scene();
    gpus(gpu(0), gpu(1, { temperatureC: 85 }));
    const report = await after(0);
    expect(report.issues).toEqual([
      { code: 'GPU_TEMPERATURE', message: 'its temperature is 85 °C', value: 85, threshold: 85, device: 'GPU-1' },
    ]);
    expect(monitor.list().map(({ uuid, usable, reason }) => [uuid, usable, reason])).toEqual([
      ['GPU-0', true, undefined],
      ['GPU-1', false, 'its temperature is 85 °C'],
    ]);
    expect(monitor.closedGate).toBeUndefined();
    gpus(gpu(0), gpu(1, { temperatureC: 82 }));
    expect((await after(60_000)).gpus[1]).toMatchObject({ usable: false });
    gpus(gpu(0), gpu(1, { temperatureC: 70 }));
    expect((await after(5_000)).gpus[1]).toMatchObject({ usable: false });
    expect((await after(10_000)).gpus[1]).toMatchObject({ usable: true, reason: null });
  });

  test.each([48, 63, 64, 74, 79, 92, 94, 95])(
    'XID %i is of the hardware: quarantine, until it was well for a while',
    async (xid) => {
      const { after, gpus } = scene();
      gpus(gpu(0), gpu(1));
      await after(0);
      gpus(gpu(0), gpu(1, { xids: [xid] }));
      const ill = await after(1_000);
      expect(codes(ill.issues)).toEqual(['GPU_XID GPU-1']);
      expect(ill.gpus.map((each) => each.usable)).toEqual([true, false]);
      gpus(gpu(0), gpu(1));
      expect((await after(299_000)).gpus[1]!.usable).toBe(false);
      expect(await after(1_000)).toMatchObject({ healthy: true });
    },
  );

  test.each([13, 31, 43, 45, 68])("XID %i is of an application: noted, and nobody's quarantine", async (xid) => {
    const { after, gpus } = scene();
    gpus(gpu(0, { xids: [xid] }));
    const report = await after(0);
    expect(report).toMatchObject({ healthy: true, issues: [] });
    expect(report.gpus[0]).toMatchObject({ usable: true, xids: [{ xid, kind: 'application' }] });
  });

  test('an XID counts once, however often its reading is judged', async () => {
    const { after, gpus, monitor } = scene();
    gpus(gpu(0, { xids: [31] }));
    await after(0);
    await monitor.lookAtMachine();
    monitor.quarantined = ['GPU-0'];
    expect(monitor.report.gpus[0]!.xids).toHaveLength(1);
  });

  test('uncorrected ECC errors that are new quarantine it; those from before the worker are history', async () => {
    const { after, gpus } = scene();
    gpus(gpu(0, { eccUncorrected: 4 }));
    expect((await after(0)).healthy).toBe(true);
    gpus(gpu(0, { eccUncorrected: 5 }));
    expect(await after(1_000)).toMatchObject({ issues: [{ code: 'GPU_ECC', value: 5 }], gpus: [{ usable: false }] });
    expect((await after(300_000)).healthy).toBe(true);
  });

  test('one that is lost is quarantined until it has answered for a while; so is one whose memory cannot be mended', async () => {
    const { after, gpus } = scene();
    gpus(gpu(0, { lost: 'GPU is lost (15)' }), gpu(1, { remapFailed: true }), gpu(2));
    const report = await after(0);
    expect(codes(report.issues)).toEqual(['GPU_LOST GPU-0', 'GPU_ECC GPU-1']);
    expect(report.gpus.map((each) => each.usable)).toEqual([false, false, true]);
    gpus(gpu(0), gpu(1), gpu(2));
    expect((await after(1_000)).gpus.map((each) => each.usable)).toEqual([false, true, true]);
    expect((await after(10_000)).gpus.map((each) => each.usable)).toEqual([true, true, true]);
  });

  test('memory that others have taken closes the gate of that device only', async () => {
    const { after, gpus, monitor } = scene();
    const stranger = { pid: 4711, memoryBytes: 70 * gib };
    gpus(gpu(0, { memoryUsedBytes: 70 * gib, processes: [stranger] }), gpu(1, { memoryUsedBytes: 63 * gib }));
    const report = await after(0);
    expect(codes(report.gates)).toEqual(['GPU_MEMORY GPU-0']);
    expect(codes(report.issues)).toEqual(['GPU_ORPHAN_MEMORY GPU-0']);
    expect(monitor.list()).toMatchObject([
      { usable: false, freeMemoryBytes: 10 * gib },
      { usable: true, freeMemoryBytes: 17 * gib },
    ]);
    expect(monitor.closedGate).toBeUndefined();
    gpus(gpu(0), gpu(1));
    await after(1_000);
    expect(codes((await after(10_000)).gates)).toEqual([]);
  });

  test('a driver that hangs leaves devices unknown and unusable, and the machine goes on', async () => {
    const { after, gpus, hang, monitor } = scene();
    gpus(gpu(0));
    await after(0);
    hang();
    const report = await after(1_000);
    expect(report.issues).toMatchObject([{ code: 'GPU_DRIVER', message: 'the driver has not answered for 5000 ms' }]);
    expect(report.gpus[0]).toMatchObject({ known: false, usable: false, temperatureC: null, memoryUsedBytes: null });
    expect(monitor.list()[0]).toMatchObject({ usable: false, reason: expect.stringMatching(/^unknown: the driver/) });
    expect(monitor.closedGate).toBeUndefined();
    gpus(gpu(0));
    expect(await after(1_000)).toMatchObject({ healthy: true, gpus: [{ known: true, usable: true }] });
  });

  test('a worker that takes GPU tasks only is closed while no device can be used', async () => {
    const { after, gpus, monitor } = scene({ needsDevice: true });
    gpus(gpu(0, { temperatureC: 99 }), gpu(1, { lost: 'gone' }));
    await after(0);
    expect(monitor.closedGate).toMatchObject({ code: 'GPU_NONE' });
    const without = scene({ needsDevice: true });
    await without.after(0);
    expect(without.monitor.closedGate).toBeUndefined();
    without.hang();
    await without.after(1_000);
    expect(without.monitor.closedGate).toMatchObject({ code: 'GPU_NONE' });
  });

  test("one that the master quarantined is not offered until it is off the master's list", async () => {
    const { after, gpus, monitor } = scene();
    gpus(gpu(0), gpu(1));
    await after(0);
    monitor.quarantined = ['GPU-1'];
    expect(monitor.list().map((each) => each.usable)).toEqual([true, false]);
    expect(codes(monitor.report.issues)).toEqual(['GPU_BREAKER GPU-1']);
    monitor.quarantined = [];
    expect(monitor.list().map((each) => each.usable)).toEqual([true, true]);
  });

  test('what the devices are is told when it becomes known and when it changes, and not with every reading', async () => {
    const told: string[][] = [];
    const { after, gpus } = scene({ onDevices: (found) => told.push(found.map((each) => each.uuid)) });
    gpus(gpu(0));
    await after(0);
    gpus(gpu(0, { temperatureC: 50 }));
    await after(1_000);
    gpus(gpu(0), gpu(1));
    await after(1_000);
    expect(told).toEqual([['GPU-0'], ['GPU-0', 'GPU-1']]);
  });
});

describe('memory without a lease', () => {
  const held = (...processes: GpuProcess[]) =>
    gpu(0, { processes, memoryUsedBytes: processes.reduce((sum, each) => sum + (each.memoryBytes ?? 0), 0) });
  const child = { pid: 4711, memoryBytes: 8 * gib };

  test('what a lease leaves behind keeps the next one away until it is gone, named by its process', async () => {
    const { after, gpus, monitor } = scene();
    gpus(held());
    await after(0);
    monitor.leaseBegan(['GPU-0']);
    // So much that without the lease it would close the gate.
    gpus(held({ ...child, memoryBytes: 70 * gib }));
    expect(await after(60_000)).toMatchObject({ healthy: true, gpus: [{ usable: true }] });
    monitor.leaseEnded(['GPU-0']);
    // The driver takes a moment to clean up.
    expect(await after(4_000)).toMatchObject({ healthy: true, gates: [], gpus: [{ usable: true }] });
    gpus(held(child));
    const report = await after(1_000);
    expect(report.issues).toMatchObject([
      { code: 'GPU_ORPHAN_MEMORY', message: 'left behind by a lease: process 4711 with 8.00 GiB', device: 'GPU-0' },
    ]);
    expect(report.gpus[0]).toMatchObject({ usable: false });
    gpus(held());
    expect(await after(1_000)).toMatchObject({ healthy: true, gpus: [{ usable: true }] });
  });

  test('what was there before the lease is of a stranger: told, and no reason to keep the device from the next', async () => {
    const { after, gpus, monitor } = scene();
    gpus(held(child));
    expect(codes((await after(0)).issues)).toEqual(['GPU_ORPHAN_MEMORY GPU-0']);
    monitor.leaseBegan(['GPU-0']);
    await after(1_000);
    monitor.leaseEnded(['GPU-0']);
    const report = await after(60_000);
    expect(report.issues).toMatchObject([{ message: 'without a lease: process 4711 with 8.00 GiB' }]);
    expect(report.gpus[0]).toMatchObject({ usable: true });
  });

  test('a process that is kept for the next task is no orphan', async () => {
    const kept = ['GPU-0'];
    const { after, gpus, machine } = scene({ keptDevices: () => kept });
    machine({ ownPids: new Set([process.pid, 4711]) });
    gpus(held(child));
    expect(await after(0)).toMatchObject({ healthy: true, gpus: [{ usable: true, processes: [{ own: true }] }] });
    kept.pop();
    expect(codes((await after(1_000)).issues)).toEqual(['GPU_ORPHAN_MEMORY GPU-0']);
  });
});

test('samples are kept for charts, a bounded number of them', async () => {
  const { after, gpus, monitor } = scene({ historyLength: 3 });
  for (const temperatureC of [41, 42, 43, 44]) {
    gpus(gpu(0, { temperatureC }));
    await after(5_000);
  }
  expect(monitor.history()).toHaveLength(3);
  expect(monitor.history().at(-1)).toMatchObject({ cpuPercent: 10, gpus: [{ uuid: 'GPU-0', temperatureC: 43 }] });
});
