import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Devices, type DevicesReading, type GpuProcess, type GpuReading, NoDriverError } from './reading.ts';
import { readDeviceList, readGpuTable, readProcessTable, SmiFormatError, smiColumns } from './smi-output.ts';

export interface SmiDevicesOptions {
  /** Default `nvidia-smi`, looked for on the PATH. */
  readonly program?: string;
  /** Of one call. Default 5 000. */
  readonly timeoutMs?: number;
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const mostOutputBytes = 1024 * 1024;

/** The program took too long, or ended with an error. */
class SmiError extends Error {
  override readonly name = 'SmiError';
}

/** Devices by the program `nvidia-smi`, where NVML itself cannot be used. It tells no XIDs. */
export class SmiDevices implements Devices {
  readonly source = 'nvidia-smi';
  readonly #program: string;
  readonly #timeoutMs: number;
  #pending: Promise<DevicesReading> | undefined;
  #noDriver: NoDriverError | undefined;
  /** Of an older program that does not know all of them. */
  #columns: keyof typeof smiColumns = 'all';
  #driverVersion: string | null = null;

  constructor(options: SmiDevicesOptions = {}) {
    this.#program = options.program ?? 'nvidia-smi';
    this.#timeoutMs = options.timeoutMs ?? 5_000;
  }

  /** Why there is nothing to read here; undefined: there is, or nobody knows yet. */
  get noDriver(): NoDriverError | undefined {
    return this.#noDriver;
  }

  read(): Promise<DevicesReading> {
    this.#pending ??= this.#read().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async close(): Promise<void> {}

  async #read(): Promise<DevicesReading> {
    try {
      const [gpus, processes] = await Promise.all([this.#gpus(), this.#processes()]);
      const whole = gpus.map((gpu): GpuReading & { migMode?: boolean } => ({
        ...gpu,
        processes: processes?.get(gpu.uuid) ?? (processes && []),
      }));
      const divided = whole.some((gpu) => gpu.migMode) ? readDeviceList(await this.#run(['-L'])) : [];
      return {
        state: 'known',
        source: 'nvidia-smi',
        gpus: whole.flatMap((gpu) => slicesOf(gpu, divided)),
        driverVersion: this.#driverVersion,
      };
    } catch (error) {
      if (error instanceof NoDriverError) {
        this.#noDriver = error;
      }
      const reason = error instanceof Error ? error.message : String(error);
      return { state: 'unknown', source: 'nvidia-smi', reason };
    }
  }

  async #gpus() {
    const query = async () => {
      const columns = smiColumns[this.#columns];
      const text = await this.#run([`--query-gpu=${columns.join(',')}`, '--format=csv,noheader,nounits']);
      return readGpuTable(text, columns);
    };
    try {
      return this.#told(await query());
    } catch (error) {
      if (this.#columns === 'all' && error instanceof SmiError && /not a valid field/i.test(error.message)) {
        this.#columns = 'few';
        return this.#told(await query());
      }
      throw error;
    }
  }

  #told(table: ReturnType<typeof readGpuTable>) {
    this.#driverVersion = table.driverVersion;
    return table.gpus;
  }

  async #processes(): Promise<Map<string, GpuProcess[]> | null> {
    try {
      const columns = '--query-compute-apps=gpu_uuid,pid,used_memory';
      return readProcessTable(await this.#run([columns, '--format=csv,noheader,nounits']));
    } catch (error) {
      if (error instanceof SmiError || error instanceof SmiFormatError) {
        // Some boards and containers do not tell; the rest is known all the same.
        return null;
      }
      throw error;
    }
  }

  async #run(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runLimited(this.#program, args, this.#timeoutMs);
    if (code !== 0) {
      const said = (stdout + stderr).trim().slice(0, 500);
      // The program without its driver: installed for containers, say. With a driver that fails it is a fault.
      if (/couldn't communicate with the NVIDIA driver/i.test(said) && !existsSync('/dev/nvidiactl')) {
        throw new NoDriverError(`${this.#program}: the driver is not loaded`);
      }
      throw new SmiError(`${this.#program} ended with ${code}: ${said}`);
    }
    return stdout;
  }
}

function slicesOf(gpu: GpuReading & { migMode?: boolean }, list: ReturnType<typeof readDeviceList>): GpuReading[] {
  const { migMode, ...whole } = gpu;
  const slices = list.find((entry) => entry.uuid === gpu.uuid)?.slices ?? [];
  return migMode && slices.length > 0
    ? slices.map((slice) => ({
        ...whole,
        uuid: slice.uuid,
        model: `${whole.model} MIG ${slice.profile}`,
        memoryBytes: slice.memoryBytes,
        mig: { parentUuid: whole.uuid, profile: slice.profile },
        // The program tells these of the whole device only.
        memoryUsedBytes: null,
        loadPercent: null,
        processes: null,
      }))
    : [whole];
}

/** Runs a program to its end, or kills it at the limit. Throws `NoDriverError` where it does not exist, `SmiError` at the limit. */
function runLimited(program: string, args: readonly string[], timeoutMs: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const text = { stdout: '', stderr: '' };
    const timer = setTimeout(() => {
      end();
      reject(new SmiError(`${program} has not answered for ${timeoutMs} ms`));
    }, timeoutMs);
    const end = () => {
      clearTimeout(timer);
      child.stdout.destroy();
      child.stderr.destroy();
      try {
        // The whole group: a wrapper script must not leave the real one behind.
        process.kill(-child.pid!, 'SIGKILL');
      } catch {
        // It has ended.
      }
      child.unref();
    };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (chunk: string) => {
        if (text[name].length < mostOutputBytes) {
          text[name] += chunk;
        }
      });
    }
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(
        error.code === 'ENOENT' || error.code === 'EACCES'
          ? new NoDriverError(`there is no program ${program}`)
          : new SmiError(`${program} cannot be run: ${error.message}`),
      );
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, ...text });
    });
  });
}
