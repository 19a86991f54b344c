import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ChildDevices, type ChildDevicesOptions } from './child-devices.ts';
import { openDevices } from './open-devices.ts';
import type { DevicesReading, GpuReading } from './reading.ts';

// The library that the child loads is compiled from C here, so that what is called, and with which types, is proved by a compiler
// that knows them. Where there is none this cannot be tested.
const compiler = ['cc', 'gcc', 'clang'].find((name) => {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
});

const gib = 1024 ** 3;
let folder: string;
let opened: ChildDevices[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-nvml-'));
});
afterEach(async () => {
  await Promise.all(opened.map((devices) => devices.close()));
  opened = [];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function open(options: ChildDevicesOptions): ChildDevices {
  const devices = new ChildDevices(options);
  opened.push(devices);
  return devices;
}

function known(reading: DevicesReading): readonly GpuReading[] {
  expect(reading).toMatchObject({ state: 'known' });
  return reading.state === 'known' ? reading.gpus : [];
}

describe.skipIf(compiler === undefined)('NVML by FFI', () => {
  let library: string;
  let state: string;
  const says = (...lines: string[]) => writeFileSync(state, `${lines.join('\n')}\n`);

  beforeAll(() => {
    library = join(folder, 'libnvml-stub.so');
    const source = fileURLToPath(new URL('../testing/nvml-stub.c', import.meta.url));
    execFileSync(compiler!, ['-shared', '-fPIC', '-o', library, source]);
  });
  beforeEach(() => {
    state = join(folder, `state-${Math.random()}`);
    says();
    // Inherited by the child, as the variables of a real worker are.
    process.env.NVML_STUB_STATE = state;
  });

  const backend = () => ({ kind: 'nvml', library }) as const;

  test('every value of a device is read', async () => {
    says('temp0 61', `used0 ${4 * gib}`, 'load0 93', 'ecc1 3', `pid0 4711 ${2 * gib}`, 'pid0 4712 -1', 'remap1 1');
    const reading = await open({ backend: backend() }).read();
    expect(reading).toMatchObject({ source: 'nvml', driverVersion: '550.54.15' });
    expect(known(reading)).toEqual([
      {
        index: 0,
        uuid: 'GPU-00000000-0000-0000-0000-000000000000',
        model: 'NVIDIA H100 80GB HBM3',
        memoryBytes: 80 * gib,
        mig: null,
        simulated: false,
        memoryUsedBytes: 4 * gib,
        loadPercent: 93,
        temperatureC: 61,
        powerWatts: 69.43,
        // The library lacks the call, and the device does not support the counters.
        powerLimitWatts: null,
        eccCorrected: null,
        eccUncorrected: null,
        remapFailed: false,
        processes: [
          { pid: 4711, memoryBytes: 2 * gib },
          { pid: 4712, memoryBytes: null },
        ],
        xids: [],
        lost: null,
      },
      expect.objectContaining({ index: 1, eccCorrected: 5, eccUncorrected: 3, remapFailed: true, processes: [] }),
    ]);
  });

  test('an XID is told once, of the device that it happened to', async () => {
    const devices = open({ backend: backend() });
    expect(known(await devices.read()).map((gpu) => gpu.xids)).toEqual([[], []]);
    says('xid1 79');
    expect(known(await devices.read()).map((gpu) => gpu.xids)).toEqual([[], [79]]);
    expect(known(await devices.read()).map((gpu) => gpu.xids)).toEqual([[], []]);
  });

  test('a device that is lost keeps its name and says why, and the others go on', async () => {
    const devices = open({ backend: backend() });
    await devices.read();
    says('lost1 1');
    const [first, second] = known(await devices.read());
    expect(first).toMatchObject({ lost: null, temperatureC: 40 });
    expect(second).toMatchObject({
      uuid: 'GPU-00000000-0000-0000-0000-000000000001',
      lost: 'GPU is lost (15)',
      temperatureC: null,
      memoryUsedBytes: null,
    });
    says();
    expect(known(await devices.read())[1]).toMatchObject({ lost: null, temperatureC: 40 });
  });

  test('a divided device is told as its slices', async () => {
    says('mig1 1');
    const gpus = known(await open({ backend: backend() }).read());
    expect(gpus.map((gpu) => [gpu.uuid, gpu.memoryBytes / gib, gpu.mig?.profile, gpu.temperatureC])).toEqual([
      ['GPU-00000000-0000-0000-0000-000000000000', 80, undefined, 40],
      ['MIG-00000000-0000-0000-0000-000000000010', 10, '1g.10gb', 40],
      ['MIG-00000000-0000-0000-0000-000000000011', 10, '1g.10gb', 40],
    ]);
  });

  test('a driver that hangs is unknown within the limit, its child is killed, and a new one reads when it answers again', async () => {
    const troubles: unknown[] = [];
    const devices = open({
      backend: backend(),
      timeoutMs: 2_000,
      restartBaseMs: 1,
      onTrouble: (_, fields) => troubles.push(fields.reason),
    });
    await devices.read();
    const first = devices.pid!;
    says('hang 1');
    const before = performance.now();
    expect(await devices.read()).toEqual({
      state: 'unknown',
      source: 'nvml',
      reason: 'the driver has not answered for 2000 ms',
    });
    expect(performance.now() - before).toBeLessThan(3_500);
    expect(troubles).toEqual(['the driver has not answered for 2000 ms']);
    says();
    await expect.poll(async () => (await devices.read()).state, { timeout: 10_000 }).toBe('known');
    expect(devices.pid).not.toBe(first);
    expect(() => process.kill(first, 0)).toThrow(/ESRCH/);
  });

  test('a library without its driver is no fault of a device', async () => {
    says('nodriver 1');
    const devices = open({ backend: backend() });
    expect(await devices.read()).toMatchObject({ state: 'unknown' });
    expect(devices.noDriver?.message).toMatch(/Driver Not Loaded/);
  });

  test('it is preferred, where it is there, to the program', async () => {
    const devices = openDevices({ nvmlLibrary: library, nvidiaSmi: '/nonexistent/nvidia-smi' });
    expect(known(await devices.read())).toHaveLength(2);
    expect(devices.source).toBe('nvml');
    await devices.close();
  });
});

test('a machine without library and program has no devices, which is no fault', async () => {
  const devices = openDevices({ nvmlLibrary: '/nonexistent/libnvidia-ml.so', nvidiaSmi: '/nonexistent/nvidia-smi' });
  expect(await devices.read()).toEqual({ state: 'known', source: 'none', gpus: [], driverVersion: null });
  await devices.close();
});

test('a source that was asked for and is not there is said to be missing', async () => {
  const devices = openDevices({ source: 'nvml', nvmlLibrary: '/nonexistent/libnvidia-ml.so' });
  expect(await devices.read()).toMatchObject({ state: 'unknown', reason: expect.stringMatching(/cannot be loaded/) });
  await devices.close();
});

describe('a declared simulation', () => {
  test('says of each device that it is simulated, and its driver can hang a real process', async () => {
    const file = join(folder, 'simulation.json');
    const write = (faults: object[]) =>
      writeFileSync(file, JSON.stringify({ gpus: [{ count: 2, model: 'H100', memory_gib: 80 }], faults }));
    write([]);
    const devices = openDevices({ simulated: file, timeoutMs: 1_500, restartBaseMs: 1 });
    const reading = await devices.read();
    expect(reading).toMatchObject({ source: 'simulated', driverVersion: 'simulated' });
    expect(known(reading).map((gpu) => [gpu.uuid, gpu.memoryBytes / gib, gpu.simulated])).toEqual([
      ['SIM-GPU-0', 80, true],
      ['SIM-GPU-1', 80, true],
    ]);
    write([{ hang: true }]);
    expect(await devices.read()).toMatchObject({ state: 'unknown', reason: expect.stringMatching(/has not answered/) });
    write([{ gpu: 1, temperature_c: 96 }]);
    await expect.poll(async () => (await devices.read()).state, { timeout: 10_000 }).toBe('known');
    expect(known(await devices.read()).map((gpu) => gpu.temperatureC)).toEqual([40, 96]);
    await devices.close();
  });
});
