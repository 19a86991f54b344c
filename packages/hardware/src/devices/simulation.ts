import type { DevicesReading, GpuReading } from './reading.ts';

/** A fault of a simulated device, or of its driver, from `atMs` after the start on, for `forMs` or for good. */
export interface SimulatedFault {
  readonly atMs: number;
  /** Infinity: for good. */
  readonly forMs: number;
  /** Index of the device; null: all. */
  readonly gpu: number | null;
  readonly temperatureC?: number;
  readonly loadPercent?: number;
  readonly powerWatts?: number;
  readonly eccCorrected?: number;
  readonly eccUncorrected?: number;
  readonly remapFailed?: boolean;
  /** Told once, in the first reading after `atMs`. */
  readonly xid?: number;
  /** The device does not answer. */
  readonly lost?: boolean;
  /** Memory that a process holds; the process need not exist. */
  readonly process?: { readonly pid: number; readonly memoryBytes: number };
  /** The driver does not answer. */
  readonly hang?: boolean;
}

export interface SimulatedGpu {
  readonly uuid: string;
  readonly model: string;
  readonly memoryBytes: number;
}

/** A machine with devices that are not there, as it was declared. */
export interface Simulation {
  readonly gpus: readonly SimulatedGpu[];
  readonly faults: readonly SimulatedFault[];
}

/** The declaration of simulated devices cannot be understood. `message` says what to write. */
export class SimulationError extends Error {
  override readonly name = 'SimulationError';
}

const gib = 1024 ** 3;
const mostGpus = 64;
const form = 'write COUNTxMODEL:GIB such as 4xH100:80, or JSON, or the path of a JSON file';

/**
 * Reads a declaration: `4xH100:80`, several of these by commas, or JSON: `{"gpus": [{"count": 4, "model": "H100", "memory_gib": 80}],
 * "faults": [{"at_ms": 5000, "for_ms": 10000, "gpu": 0, "temperature_c": 96}, {"at_ms": 20000, "hang": true}]}`. `gpus` may be the short
 * form, too. Throws `SimulationError`.
 */
export function parseSimulation(text: string): Simulation {
  const trimmed = text.trim();
  if (!trimmed.startsWith('{')) {
    return { gpus: numbered(shortForm(trimmed)), faults: [] };
  }
  let value: unknown;
  try {
    value = JSON.parse(trimmed);
  } catch (error) {
    throw new SimulationError(`the simulation is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const fields = new Fields(value, 'the simulation', ['gpus', 'faults']);
  const declared = fields.value.gpus;
  const gpus =
    typeof declared === 'string'
      ? shortForm(declared)
      : fields.list('gpus').flatMap((each, i) => gpuOf(each, `gpus[${i}]`));
  const all = numbered(gpus);
  return { gpus: all, faults: fields.list('faults').map((each, i) => faultOf(each, `faults[${i}]`, all.length)) };
}

function shortForm(text: string): Omit<SimulatedGpu, 'uuid'>[] {
  return text.split(',').flatMap((part) => {
    const match = /^\s*(\d{1,2})x([^:,]+?)(?::(\d+(?:\.\d+)?))?\s*$/.exec(part);
    if (match === null) {
      throw new SimulationError(`"${part.trim()}" declares no simulated GPUs; ${form}`);
    }
    const gpu = { model: match[2]!, memoryBytes: Math.round(Number(match[3] ?? 80) * gib) };
    return Array.from({ length: Number(match[1]) }, () => gpu);
  });
}

function gpuOf(value: unknown, where: string): { uuid?: string; model: string; memoryBytes: number }[] {
  const fields = new Fields(value, where, ['count', 'model', 'memory_gib', 'uuid']);
  const model = fields.text('model') ?? 'H100';
  const memoryBytes = Math.round((fields.number('memory_gib') ?? 80) * gib);
  const uuid = fields.text('uuid');
  return Array.from({ length: fields.number('count') ?? 1 }, (_, i) => ({
    ...(uuid !== undefined && { uuid: i === 0 ? uuid : `${uuid}-${i}` }),
    model,
    memoryBytes,
  }));
}

function numbered(gpus: readonly { uuid?: string; model: string; memoryBytes: number }[]): SimulatedGpu[] {
  if (gpus.length === 0 || gpus.length > mostGpus) {
    throw new SimulationError(`${gpus.length} simulated GPUs are declared, not 1 to ${mostGpus}; ${form}`);
  }
  return gpus.map((gpu, i) => ({ uuid: gpu.uuid ?? `SIM-GPU-${i}`, model: gpu.model, memoryBytes: gpu.memoryBytes }));
}

function faultOf(value: unknown, where: string, gpus: number): SimulatedFault {
  const fields = new Fields(value, where, [
    'at_ms',
    'for_ms',
    'gpu',
    'temperature_c',
    'load_percent',
    'power_watts',
    'ecc_corrected',
    'ecc_uncorrected',
    'remap_failed',
    'xid',
    'lost',
    'process',
    'hang',
  ]);
  const gpu = fields.number('gpu') ?? null;
  if (gpu !== null && (!Number.isInteger(gpu) || gpu >= gpus)) {
    throw new SimulationError(`${where}.gpu is ${gpu}; there are devices 0 to ${gpus - 1}`);
  }
  const holder = fields.value.process;
  const process = holder === undefined ? undefined : new Fields(holder, `${where}.process`, ['pid', 'memory_gib']);
  const number = (from: string, to: string) => {
    const found = fields.number(from);
    return found === undefined ? {} : { [to]: found };
  };
  const flag = (from: string, to: string) => (fields.value[from] === true ? { [to]: true } : {});
  return {
    atMs: fields.number('at_ms') ?? 0,
    forMs: fields.number('for_ms') ?? Number.POSITIVE_INFINITY,
    gpu,
    ...number('temperature_c', 'temperatureC'),
    ...number('load_percent', 'loadPercent'),
    ...number('power_watts', 'powerWatts'),
    ...number('ecc_corrected', 'eccCorrected'),
    ...number('ecc_uncorrected', 'eccUncorrected'),
    ...number('xid', 'xid'),
    ...flag('remap_failed', 'remapFailed'),
    ...flag('lost', 'lost'),
    ...flag('hang', 'hang'),
    ...(process && {
      process: {
        pid: process.number('pid') ?? 999_999,
        memoryBytes: Math.round((process.number('memory_gib') ?? 1) * gib),
      },
    }),
  };
}

/** The fields of one JSON object; a wrong one is named. */
class Fields {
  readonly value: Readonly<Record<string, unknown>>;
  readonly #where: string;

  constructor(value: unknown, where: string, known: readonly string[]) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new SimulationError(`${where} is no object`);
    }
    const unknown = Object.keys(value).filter((key) => !known.includes(key));
    if (unknown.length > 0) {
      throw new SimulationError(`${where} has ${unknown.join(', ')}; there are ${known.join(', ')}`);
    }
    this.value = value as Record<string, unknown>;
    this.#where = where;
  }

  list(name: string): unknown[] {
    const found = this.value[name] ?? [];
    if (!Array.isArray(found)) {
      throw new SimulationError(`${this.#where}: ${name} is no list`);
    }
    return found;
  }

  number(name: string): number | undefined {
    const found = this.value[name];
    if (found !== undefined && (typeof found !== 'number' || found < 0)) {
      throw new SimulationError(`${this.#where}: ${name} is no number from 0 on`);
    }
    return found;
  }

  text(name: string): string | undefined {
    const found = this.value[name];
    if (found !== undefined && (typeof found !== 'string' || found === '')) {
      throw new SimulationError(`${this.#where}: ${name} is no text`);
    }
    return found;
  }
}

/** Whether the driver hangs at this time. */
export function hangs(simulation: Simulation, elapsedMs: number): boolean {
  return active(simulation, elapsedMs).some((fault) => fault.hang === true);
}

/**
 * The devices at a time.
 *
 * @param sinceMs of the reading before: an XID is told once, in the first reading after it happened; -1: there was none
 */
export function simulate(simulation: Simulation, elapsedMs: number, sinceMs: number): DevicesReading {
  const faults = active(simulation, elapsedMs);
  const gpus = simulation.gpus.map((gpu, index): GpuReading => {
    const mine = faults.filter((fault) => fault.gpu === null || fault.gpu === index);
    const last = <K extends keyof SimulatedFault>(key: K) => mine.findLast((fault) => fault[key] !== undefined)?.[key];
    const processes = mine.flatMap((fault) => fault.process ?? []);
    const lost = last('lost') === true;
    const unless = <T>(value: T): T | null => (lost ? null : value);
    const xids = simulation.faults.filter(
      (fault) =>
        fault.xid !== undefined &&
        (fault.gpu === null || fault.gpu === index) &&
        fault.atMs <= elapsedMs &&
        fault.atMs > sinceMs,
    );
    return {
      index,
      uuid: gpu.uuid,
      model: gpu.model,
      memoryBytes: gpu.memoryBytes,
      mig: null,
      simulated: true,
      memoryUsedBytes: unless(processes.reduce((sum, each) => sum + each.memoryBytes, 0)),
      loadPercent: unless(last('loadPercent') ?? 0),
      temperatureC: unless(last('temperatureC') ?? 40),
      powerWatts: unless(last('powerWatts') ?? 70),
      powerLimitWatts: unless(700),
      eccCorrected: unless(last('eccCorrected') ?? 0),
      eccUncorrected: unless(last('eccUncorrected') ?? 0),
      remapFailed: unless(last('remapFailed') ?? false),
      processes: unless(processes),
      xids: xids.map((fault) => fault.xid!),
      lost: lost ? 'GPU is lost (simulated)' : null,
    };
  });
  return { state: 'known', source: 'simulated', gpus, driverVersion: 'simulated' };
}

function active(simulation: Simulation, elapsedMs: number): SimulatedFault[] {
  return simulation.faults.filter((fault) => fault.atMs <= elapsedMs && elapsedMs < fault.atMs + fault.forMs);
}
