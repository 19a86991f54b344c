import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SmiDevices } from './smi-devices.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'baton-smi-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const mib = 1024 ** 2;

/** An `nvidia-smi` of these words: what it prints for the table of devices, for that of processes, and for `-L`. */
function program(name: string, gpus: string, processes = '', list = ''): SmiDevices {
  return script(
    name,
    `case "$1" in
--query-gpu=*) cat <<'END'
${gpus}
END
;;
--query-compute-apps=*) cat <<'END'
${processes}
END
;;
-L) cat <<'END'
${list}
END
;;
esac`,
  );
}

function script(name: string, body: string, timeoutMs = 5_000): SmiDevices {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return new SmiDevices({ program: path, timeoutMs });
}

test('the table of a machine with two devices is read, with the processes of each', async () => {
  const devices = program(
    'h100',
    `0, GPU-8f6d3b3e-1c3f-4b57-9a0e-6f1f0c7f5a11, NVIDIA H100 80GB HBM3, 81559, 40010, 97, 66, 612.33, 550.54.15, 700.00, 0, 0, Disabled
1, GPU-1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9, NVIDIA H100 80GB HBM3, 81559, 4, 0, 31, 69.43, 550.54.15, 700.00, 12, 2, Disabled`,
    `GPU-8f6d3b3e-1c3f-4b57-9a0e-6f1f0c7f5a11, 4711, 39990
GPU-8f6d3b3e-1c3f-4b57-9a0e-6f1f0c7f5a11, 4712, [N/A]`,
  );
  const reading = await devices.read();
  expect(reading).toMatchObject({ state: 'known', source: 'nvidia-smi', driverVersion: '550.54.15' });
  expect(reading.state === 'known' && reading.gpus).toMatchObject([
    {
      index: 0,
      uuid: 'GPU-8f6d3b3e-1c3f-4b57-9a0e-6f1f0c7f5a11',
      model: 'NVIDIA H100 80GB HBM3',
      memoryBytes: 81559 * mib,
      memoryUsedBytes: 40010 * mib,
      loadPercent: 97,
      temperatureC: 66,
      powerWatts: 612.33,
      powerLimitWatts: 700,
      eccUncorrected: 0,
      processes: [
        { pid: 4711, memoryBytes: 39990 * mib },
        { pid: 4712, memoryBytes: null },
      ],
      simulated: false,
    },
    { index: 1, eccCorrected: 12, eccUncorrected: 2, processes: [] },
  ]);
});

test('what a board does not support is null and not 0', async () => {
  const devices = program(
    'geforce',
    '0, GPU-7d0c6f4e-0000-4000-8000-000000000001, NVIDIA GeForce GTX 1050, 2048, [N/A], [Not Supported], 45, [N/A], 470.82.01, [N/A], [N/A], N/A, [N/A]',
  );
  const reading = await devices.read();
  expect(reading.state === 'known' && reading.gpus[0]).toMatchObject({
    memoryBytes: 2048 * mib,
    memoryUsedBytes: null,
    loadPercent: null,
    temperatureC: 45,
    powerWatts: null,
    powerLimitWatts: null,
    eccCorrected: null,
    eccUncorrected: null,
    lost: null,
  });
});

test('a device that has fallen off the bus is lost, and the others are read', async () => {
  const devices = program(
    'lost',
    `0, GPU-00000000-0000-4000-8000-000000000000, NVIDIA A100-SXM4-40GB, 40960, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], 535.54.03, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]
1, GPU-00000000-0000-4000-8000-000000000001, NVIDIA A100-SXM4-40GB, 40960, 0, 0, 30, 50.1, 535.54.03, 400.00, 0, 0, Disabled`,
  );
  const reading = await devices.read();
  expect(reading.state === 'known' && reading.gpus.map((gpu) => gpu.lost)).toEqual(['GPU is lost', null]);
});

test('a divided device is told as its slices', async () => {
  const devices = program(
    'mig',
    '0, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, NVIDIA A100-SXM4-40GB, 40960, 25, [N/A], 29, 43.52, 535.54.03, 400.00, 0, 0, Enabled',
    '',
    `GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)`,
  );
  const reading = await devices.read();
  expect(reading.state === 'known' && reading.gpus).toMatchObject([
    {
      uuid: 'MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f',
      memoryBytes: 20 * 1024 * mib,
      memoryUsedBytes: null,
      temperatureC: 29,
      mig: { parentUuid: 'GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77', profile: '3g.20gb' },
    },
    { uuid: 'MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb', memoryBytes: 5 * 1024 * mib },
  ]);
});

test('an older program that does not know a column is asked for fewer', async () => {
  const devices = script(
    'old',
    `case "$1" in
*mig.mode.current*) echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2;;
--query-gpu=*) echo '0, GPU-00000000-0000-4000-8000-000000000000, Tesla K80, 11441, 0, 0, 35, 27.02, 390.30';;
esac`,
  );
  const reading = await devices.read();
  expect(reading.state === 'known' && reading.gpus).toMatchObject([
    { model: 'Tesla K80', powerWatts: 27.02, eccUncorrected: null },
  ]);
});

test('a program that hangs, with a child that does, is killed with its children at the limit', async () => {
  const pids = join(folder, 'pids');
  const devices = script('hangs', `sleep 600 & echo $! $$ >> ${pids}; wait`, 400);
  const before = performance.now();
  expect(await devices.read()).toMatchObject({
    state: 'unknown',
    reason: expect.stringMatching(/has not answered for 400 ms/),
  });
  expect(performance.now() - before).toBeLessThan(3_000);
  for (const pid of readFileSync(pids, 'utf8').trim().split(/\s+/)) {
    await expect.poll(() => isRunning(Number(pid))).toBe(false);
  }
});

test.each([
  ['garbage', 'echo "<html>nope</html>"', /no line of its table/],
  ['half a line', 'echo "0, GPU-00000000-0000-4000-8000-000000000000, NVIDIA"', /no line of its table/],
  [
    'words for numbers',
    "echo '0, GPU-0, NVIDIA A100, many, 0, 0, 30, 50.1, 535.54.03, 400.00, 0, 0, Disabled'",
    /"many" for a number/,
  ],
  [
    'an error',
    "echo 'Unable to determine the device handle for GPU 0000:01:00.0: Unknown Error'; exit 15",
    /ended with 15: Unable/,
  ],
])('%s is unknown, with its reason', async (name, body, reason) => {
  const reading = await script(name.replaceAll(' ', '-'), body).read();
  expect(reading).toMatchObject({ state: 'unknown', reason: expect.stringMatching(reason) });
});

test('a machine without the program, or with it and without a driver, has no devices', async () => {
  const none = new SmiDevices({ program: join(folder, 'missing') });
  await none.read();
  expect(none.noDriver?.message).toMatch(/there is no program/);
  const idle = script(
    'driverless',
    `echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running."; exit 9`,
  );
  await idle.read();
  expect(idle.noDriver?.message).toMatch(/driver is not loaded/);
});

test('no devices is no error', async () => {
  expect(await program('empty', 'No devices were found').read()).toMatchObject({ state: 'known', gpus: [] });
});

/** A zombie has ended; whoever started it has not looked yet. */
function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
