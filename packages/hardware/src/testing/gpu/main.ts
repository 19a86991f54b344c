/**
 * The device suite for a machine with a real NVIDIA GPU: detection by NVML and by nvidia-smi, memory really allocated in a child process,
 * its process number, memory that outlives its lease, and devices handed to a child by UUID. Needs the driver and nothing else.
 *
 *   npm run test:gpu         exit code 0: all checks passed; 1: one failed; 2: there is no GPU here, and nothing was checked
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { openDevices } from '../../devices/open-devices.ts';
import type { GpuReading } from '../../devices/reading.ts';
import { createMachineMeter } from '../../health/machine-meter.ts';
import { HealthMonitor } from '../../health/monitor.ts';

const mib = 1024 ** 2;
const allocatedBytes = 512 * mib;
const orphanGraceMs = 500;
const script = fileURLToPath(new URL('./allocate.ts', import.meta.url));
let failures = 0;

function check(what: string, isTrue: boolean, found: unknown): void {
  failures += isTrue ? 0 : 1;
  process.stdout.write(`${isTrue ? 'ok  ' : 'FAIL'}  ${what}: ${JSON.stringify(found)}\n`);
}

interface Holder {
  readonly process: ChildProcess;
  readonly said: { pid: number; devices?: number; uuid?: string; error?: string };
}

/** A child that holds memory of the devices it may see. */
async function hold(visible: string): Promise<Holder> {
  const child = spawn(process.execPath, [script, String(allocatedBytes)], {
    // The child is a CUDA program like any other.
    env: { ...process.env, CUDA_VISIBLE_DEVICES: visible, CUDA_DEVICE_ORDER: 'PCI_BUS_ID' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout! })) {
    return { process: child, said: JSON.parse(line) };
  }
  return { process: child, said: { pid: child.pid ?? 0, error: 'it ended without a word' } };
}

async function end({ process: child }: Holder): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

async function until(isTrue: () => Promise<boolean>, timeoutMs = 15_000): Promise<boolean> {
  for (const end = performance.now() + timeoutMs; performance.now() < end; ) {
    if (await isTrue()) {
      return true;
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return false;
}

async function checkReaders(): Promise<readonly GpuReading[]> {
  const nvml = openDevices({ source: 'nvml' });
  const smi = openDevices({ source: 'nvidia-smi' });
  const [byNvml, bySmi] = await Promise.all([nvml.read(), smi.read()]);
  await Promise.all([nvml.close(), smi.close()]);
  if (byNvml.state !== 'known' && bySmi.state !== 'known') {
    process.stderr.write(
      `There is no GPU that could be tested here.\n  NVML: ${byNvml.reason}\n  nvidia-smi: ${bySmi.reason}\n`,
    );
    process.exit(2);
  }
  const gpus = byNvml.state === 'known' ? byNvml.gpus : [];
  if (byNvml.state === 'known' && gpus.length === 0) {
    process.stderr.write('There is no GPU here: the driver is loaded and has none.\n');
    process.exit(2);
  }
  check('NVML reads the devices', byNvml.state === 'known', byNvml);
  if (bySmi.state === 'known') {
    const what = (all: readonly GpuReading[]) => all.map(({ uuid, model }) => [uuid, model]);
    check(
      'nvidia-smi finds the same devices',
      JSON.stringify(what(bySmi.gpus)) === JSON.stringify(what(gpus)),
      what(bySmi.gpus),
    );
    const apart = bySmi.gpus.map((gpu, i) => Math.abs(gpu.memoryBytes - (gpus[i]?.memoryBytes ?? 0)) / mib);
    check(
      'and the same memory, to 1 GiB',
      apart.every((each) => each < 1024),
      { apart_mib: apart },
    );
  } else {
    process.stdout.write(`--    nvidia-smi is not there or does not answer: ${bySmi.reason}\n`);
  }
  for (const gpu of gpus) {
    check(`device ${gpu.index} tells its temperature`, (gpu.temperatureC ?? 0) > 0, gpu.temperatureC);
    check(`device ${gpu.index} is no simulation`, !gpu.simulated, gpu.simulated);
  }
  return gpus;
}

async function checkMemory(first: GpuReading): Promise<void> {
  const monitor = new HealthMonitor({
    devices: openDevices({ source: 'nvml' }),
    machine: createMachineMeter({ ownRoots: [process.pid], diskPath: '.', masterUrl: () => undefined }),
    limits: { orphanGraceMs, openAfterMs: 0 },
    intervalMs: 500,
  });
  await monitor.start(10_000);
  const { uuid } = first;
  const now = () => monitor.report.gpus.find((gpu) => gpu.uuid === uuid)!;
  const before = now().memoryUsedBytes ?? 0;
  const others = (now().processes ?? []).map(({ pid }) => pid);
  check('the device can be used before the lease', now().usable, now().reason);

  monitor.leaseBegan([uuid]);
  const holder = await hold(uuid);
  try {
    check(
      'a child that is given the device by UUID sees that one alone',
      holder.said.uuid === uuid && holder.said.devices === 1,
      holder.said,
    );
    const grown = async () => (now().memoryUsedBytes ?? 0) - before >= allocatedBytes * 0.9;
    check('the memory that it takes is seen', await until(grown), {
      grown_mib: ((now().memoryUsedBytes ?? 0) - before) / mib,
    });
    const fresh = () => (now().processes ?? []).filter(({ pid }) => !others.includes(pid));
    const isListed = await until(async () => fresh().length > 0);
    if (isListed) {
      check('and the process that takes it', isListed, fresh());
    } else {
      process.stdout.write(
        '--    the driver lists no processes here (a container?): who holds memory cannot be checked\n',
      );
    }
    const isMine = fresh().some(({ pid, own }) => pid === holder.said.pid && own);
    if (isMine) {
      check('by its number, as one of the worker', isMine, fresh());
    } else if (isListed) {
      process.stdout.write(
        `--    the driver tells other process numbers than this container knows: ${JSON.stringify(fresh())}\n`,
      );
    }
    check('it is healthy while the lease has it', now().usable && monitor.report.healthy, monitor.report.issues);

    monitor.leaseEnded([uuid]);
    const isOrphan = async () =>
      monitor.report.issues.some(({ code, device }) => code === 'GPU_ORPHAN_MEMORY' && device === uuid);
    if (isListed) {
      check('memory that outlives its lease is found', await until(isOrphan), monitor.report.issues);
      check('and keeps the device from the next task', !now().usable, now().reason);
    }
  } finally {
    await end(holder);
  }
  check('when the process is gone the device comes back', await until(async () => now().usable), now().reason);
  const freed = async () => (now().memoryUsedBytes ?? 0) - before < allocatedBytes / 2;
  check('and its memory', await until(freed), { left_mib: ((now().memoryUsedBytes ?? 0) - before) / mib });
  await monitor.close();
}

const gpus = await checkReaders();
await checkMemory(gpus[0]!);
const blind = await hold('');
await end(blind);
check('a child with no device by its variable sees none', blind.said.devices === 0, blind.said);
process.stdout.write(failures === 0 ? 'all checks passed\n' : `${failures} checks failed\n`);
process.exit(failures === 0 ? 0 : 1);
