import { existsSync, readFileSync, statSync } from 'node:fs';
import { platform } from 'node:os';
import { ChildDevices, type ChildDevicesOptions } from './child-devices.ts';
import { defaultLibrary } from './nvml-library.ts';
import { type Devices, type DevicesReading, type GpuReading, noGpus } from './reading.ts';
import { parseSimulation, SimulationError } from './simulation.ts';
import { SmiDevices } from './smi-devices.ts';

export interface DeviceOptions {
  /** Declared devices in place of real ones: `4xH100:80`, JSON, or the path of a JSON file. Wins over the rest. */
  readonly simulated?: string | undefined;
  /** `auto`: NVML, and `nvidia-smi` where it cannot be loaded. Default `auto`. */
  readonly source?: 'auto' | 'nvml' | 'nvidia-smi' | 'none';
  /** Of the devices only these, by UUID or index: another worker of this machine may have the rest. Default: all. */
  readonly only?: readonly string[] | undefined;
  /** Path of NVML, where the loader does not find it by name. */
  readonly nvmlLibrary?: string | undefined;
  /** Default `nvidia-smi`. */
  readonly nvidiaSmi?: string | undefined;
  /** Of one reading. Default 5 000. */
  readonly timeoutMs?: number;
  readonly restartBaseMs?: number;
  readonly onTrouble?: ChildDevicesOptions['onTrouble'];
}

/** Where the kernel's part of the driver shows itself. */
const driverPaths = ['/dev/nvidiactl', '/dev/nvidia0', '/proc/driver/nvidia/version', '/dev/dxg'];

/** Opens this machine's devices, or the declared ones. Starts nothing before the first `read`. Throws `SimulationError`. */
export function openDevices(options: DeviceOptions = {}): Devices {
  const devices = openAll(options);
  const { only = [] } = options;
  return only.length === 0 ? devices : new SomeDevices(devices, only);
}

function openAll(options: DeviceOptions): Devices {
  const child = (backend: ChildDevicesOptions['backend']) =>
    new ChildDevices({
      backend,
      ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
      ...(options.restartBaseMs !== undefined && { restartBaseMs: options.restartBaseMs }),
      ...(options.onTrouble && { onTrouble: options.onTrouble }),
    });
  const { source = 'auto' } = options;
  if (options.simulated) {
    checkSimulation(options.simulated);
    const file = fileOf(options.simulated);
    return child({ kind: 'simulated', text: options.simulated, file, startedAtMs: Date.now() });
  }
  const library = options.nvmlLibrary ?? defaultLibrary(platform());
  // A child costs a process: it is not started where the kernel has no such driver.
  const nvmlIsLikely = options.nvmlLibrary !== undefined || platform() === 'win32' || driverPaths.some(existsSync);
  const nvml = source === 'nvml' || (source === 'auto' && nvmlIsLikely) ? child({ kind: 'nvml', library }) : undefined;
  const smi =
    source === 'nvidia-smi' || source === 'auto'
      ? new SmiDevices({
          ...(options.nvidiaSmi && { program: options.nvidiaSmi }),
          ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
        })
      : undefined;
  return new FirstThatWorks(
    [nvml, smi].filter((each) => each !== undefined),
    source === 'auto',
  );
}

/** Throws `SimulationError` where a declaration of simulated devices cannot be understood. */
export function checkSimulation(declared: string): void {
  const file = fileOf(declared);
  parseSimulation(file === null ? declared : readFileSync(file, 'utf8'));
}

function fileOf(declared: string): string | null {
  const text = declared.trim();
  if (text.startsWith('{') || /^\d+x/.test(text)) {
    return null;
  }
  if (statSync(text, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new SimulationError(`there is no file ${text}; write 4xH100:80, JSON, or the path of a JSON file`);
  }
  return text;
}

/** A part of the devices. */
class SomeDevices implements Devices {
  readonly #all: Devices;
  readonly #only: readonly string[];

  constructor(all: Devices, only: readonly string[]) {
    this.#all = all;
    this.#only = only;
  }

  get source() {
    return this.#all.source;
  }

  async read(): Promise<DevicesReading> {
    const reading = await this.#all.read();
    const isMine = ({ uuid, index, mig }: GpuReading) =>
      this.#only.some((each) => each === uuid || each === mig?.parentUuid || each === String(index));
    return reading.state === 'known' ? { ...reading, gpus: reading.gpus.filter(isMine) } : reading;
  }

  close(): Promise<void> {
    return this.#all.close();
  }
}

/** Goes on to the next way of reading where one does not exist on this machine; hanging or failing is no such reason. */
class FirstThatWorks implements Devices {
  readonly #ways: readonly (ChildDevices | SmiDevices)[];
  readonly #noneIsFine: boolean;
  #at = 0;

  /** @param noneIsFine a machine without any way has no devices; otherwise what was asked for is missing */
  constructor(ways: readonly (ChildDevices | SmiDevices)[], noneIsFine: boolean) {
    this.#ways = ways;
    this.#noneIsFine = noneIsFine;
  }

  get source() {
    return this.#ways[this.#at]?.source ?? 'none';
  }

  async read(): Promise<DevicesReading> {
    let missing: DevicesReading | undefined;
    for (; this.#at < this.#ways.length; this.#at++) {
      const way = this.#ways[this.#at]!;
      const reading = await way.read();
      if (way.noDriver === undefined) {
        return reading;
      }
      missing = reading;
      if (!this.#noneIsFine) {
        return reading;
      }
    }
    return this.#noneIsFine || missing === undefined ? noGpus.read() : missing;
  }

  async close(): Promise<void> {
    await Promise.all(this.#ways.map((way) => way.close()));
  }
}
