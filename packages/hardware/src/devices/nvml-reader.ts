import type { Handle, NvmlCalls } from './nvml-library.ts';
import { notAvailable, nvml, xidEvents } from './nvml-library.ts';
import { type DevicesReading, type GpuProcess, type GpuReading, NoDriverError } from './reading.ts';

/** Gone from the bus, or to be reset before anything else: the device is ill, and not the driver. */
const lostCodes: readonly number[] = [nvml.gpuIsLost, nvml.resetRequired];
const processRecordBytes = 24;
const eventRecordBytes = 32;
/** Events taken with one reading; more wait for the next. */
const mostEvents = 256;

/** Reads all devices by NVML. Each call may hang, so it belongs in the device child. */
export class NvmlReader {
  readonly #calls: NvmlCalls;
  readonly #driverVersion: string | null;
  readonly #handles = new Map<number, Handle>();
  /** The last answer of each index: a device that is lost does not tell its name any more. */
  readonly #known = new Map<number, { uuid: string; model: string; memoryBytes: number }>();
  #events: Handle | null = null;

  /** Throws `NoDriverError` where the driver is not loaded. */
  constructor(calls: NvmlCalls) {
    this.#calls = calls;
    const code = calls.init();
    if (code !== nvml.success) {
      throw new NoDriverError(`NVML does not begin: ${this.#words(code)}`);
    }
    this.#driverVersion = this.#text((text, length) => calls.driverVersion(text, length), 80);
    const set: [Handle | null] = [null];
    this.#events = calls.eventSetCreate(set) === nvml.success ? set[0] : null;
  }

  read(): DevicesReading {
    const out: [number | null] = [0];
    const code = this.#calls.count(out);
    if (code !== nvml.success) {
      return { state: 'unknown', source: 'nvml', reason: `NVML does not count its devices: ${this.#words(code)}` };
    }
    const xids = this.#takeXids();
    const gpus = Array.from({ length: out[0] ?? 0 }, (_, index) => this.#device(index, xids)).flat();
    return { state: 'known', source: 'nvml', gpus, driverVersion: this.#driverVersion };
  }

  close(): void {
    this.#calls.shutdown();
  }

  #device(index: number, xids: ReadonlyMap<bigint, readonly number[]>): GpuReading[] {
    const { handle, code } = this.#handleOf(index);
    if (handle === undefined) {
      return [this.#lost(index, this.#words(code), [])];
    }
    const mine = xids.get(this.#calls.addressOf(handle)) ?? [];
    const uuid = this.#text((text, length) => this.#calls.uuid(handle, text, length), 96);
    const memory = this.#memory(handle);
    if (uuid === null || memory.code !== nvml.success) {
      const why = memory.code === nvml.success ? 'it does not tell its UUID' : this.#words(memory.code);
      const isMinor = uuid !== null && !lostCodes.includes(memory.code) && memory.code !== nvml.success;
      // A divided device does not always tell its memory as a whole; a lost one says that it is.
      if (!isMinor || this.#migHandles(handle).length === 0) {
        return [this.#lost(index, why, mine)];
      }
    }
    const temperature = this.#number((out) => this.#calls.temperature(handle, 0, out));
    if (temperature.code !== undefined && lostCodes.includes(temperature.code)) {
      return [this.#lost(index, this.#words(temperature.code), mine)];
    }
    const model = this.#text((text, length) => this.#calls.modelName(handle, text, length), 96) ?? 'unknown';
    this.#known.set(index, { uuid: uuid!, model, memoryBytes: memory.total });
    const whole: GpuReading = {
      index,
      uuid: uuid!,
      model,
      memoryBytes: memory.total,
      mig: null,
      simulated: false,
      memoryUsedBytes: memory.code === nvml.success ? memory.used : null,
      loadPercent: this.#load(handle),
      temperatureC: temperature.value,
      powerWatts: milli(this.#number((out) => this.#calls.powerMilliwatts(handle, out)).value),
      powerLimitWatts: milli(this.#number((out) => this.#calls.powerLimitMilliwatts(handle, out)).value),
      eccCorrected: this.#ecc(handle, 0),
      eccUncorrected: this.#ecc(handle, 1),
      remapFailed: this.#remapFailed(handle),
      processes: this.#processes(handle),
      xids: mine,
      lost: null,
    };
    const slices = this.#migHandles(handle);
    return slices.length === 0 ? [whole] : slices.map((slice) => this.#slice(slice, whole));
  }

  /** A slice has memory and processes of its own; it shares all else with the whole. */
  #slice(handle: Handle, whole: GpuReading): GpuReading {
    const memory = this.#memory(handle);
    const model = this.#text((text, length) => this.#calls.modelName(handle, text, length), 96) ?? whole.model;
    const uuid = this.#text((text, length) => this.#calls.uuid(handle, text, length), 96);
    return {
      ...whole,
      uuid: uuid ?? `${whole.uuid}/unknown`,
      model,
      memoryBytes: memory.total,
      memoryUsedBytes: memory.code === nvml.success ? memory.used : null,
      mig: { parentUuid: whole.uuid, profile: /MIG (\S+)/.exec(model)?.[1] ?? '' },
      processes: this.#processes(handle),
      // NVML does not tell the load of a slice.
      loadPercent: null,
      lost: uuid === null ? 'the slice does not tell its UUID' : null,
    };
  }

  #handleOf(index: number): { handle?: Handle; code: number } {
    const known = this.#handles.get(index);
    if (known !== undefined) {
      return { handle: known, code: nvml.success };
    }
    const out: [Handle | null] = [null];
    const code = this.#calls.handleByIndex(index, out);
    if (code !== nvml.success || out[0] === null) {
      return { code };
    }
    this.#handles.set(index, out[0]);
    if (this.#events !== null) {
      // Not supported on some boards: then XIDs are not seen.
      this.#calls.registerEvents(out[0], xidEvents, this.#events);
    }
    return { handle: out[0], code };
  }

  #lost(index: number, why: string, xids: readonly number[]): GpuReading {
    // What it is asked again, it may have come back under another handle.
    this.#handles.delete(index);
    const known = this.#known.get(index);
    return {
      index,
      uuid: known?.uuid ?? `GPU-unknown-${index}`,
      model: known?.model ?? 'unknown',
      memoryBytes: known?.memoryBytes ?? 0,
      mig: null,
      simulated: false,
      memoryUsedBytes: null,
      loadPercent: null,
      temperatureC: null,
      powerWatts: null,
      powerLimitWatts: null,
      eccCorrected: null,
      eccUncorrected: null,
      remapFailed: null,
      processes: null,
      xids,
      lost: why,
    };
  }

  #migHandles(device: Handle): Handle[] {
    const current: [number | null] = [0];
    if (this.#calls.migMode(device, current, [0]) !== nvml.success || current[0] !== 1) {
      return [];
    }
    const most = this.#number((out) => this.#calls.migCount(device, out)).value ?? 0;
    return Array.from({ length: most }, (_, i) => {
      const out: [Handle | null] = [null];
      // An index without a slice is "not found": there are fewer than the most.
      return this.#calls.migHandle(device, i, out) === nvml.success ? out[0] : null;
    }).filter((handle) => handle !== null);
  }

  #memory(device: Handle): { code: number; total: number; used: number } {
    const record = Buffer.alloc(24);
    const code = this.#calls.memory(device, record);
    return { code, total: Number(record.readBigUInt64LE(0)), used: Number(record.readBigUInt64LE(16)) };
  }

  #load(device: Handle): number | null {
    const record = Buffer.alloc(8);
    return this.#calls.utilization(device, record) === nvml.success ? record.readUInt32LE(0) : null;
  }

  #ecc(device: Handle, kind: number): number | null {
    const out: [number | bigint | null] = [0];
    return this.#calls.eccErrors(device, kind, 0, out) === nvml.success ? Number(out[0]) : null;
  }

  #remapFailed(device: Handle): boolean | null {
    const failed: [number | null] = [0];
    return this.#calls.remappedRows(device, [0], [0], [0], failed) === nvml.success ? failed[0] === 1 : null;
  }

  #processes(device: Handle): GpuProcess[] | null {
    const count: [number] = [0];
    let code = this.#calls.processes(device, count, null);
    // Others begin between the two calls: ask again with more room.
    for (let tries = 0; code === nvml.insufficientSize && tries < 4; tries++) {
      const room = count[0] + 8;
      const records = Buffer.alloc(room * processRecordBytes);
      count[0] = room;
      code = this.#calls.processes(device, count, records);
      if (code === nvml.success) {
        return Array.from({ length: count[0] }, (_, i) => {
          const used = records.readBigUInt64LE(i * processRecordBytes + 8);
          return {
            pid: records.readUInt32LE(i * processRecordBytes),
            memoryBytes: used === notAvailable ? null : Number(used),
          };
        });
      }
    }
    return code === nvml.success ? [] : null;
  }

  #takeXids(): Map<bigint, number[]> {
    const found = new Map<bigint, number[]>();
    if (this.#events === null) {
      return found;
    }
    const record = Buffer.alloc(eventRecordBytes);
    for (let i = 0; i < mostEvents && this.#calls.eventWait(this.#events, record, 0) === nvml.success; i++) {
      if (record.readBigUInt64LE(8) === xidEvents) {
        const device = record.readBigUInt64LE(0);
        found.set(device, [...(found.get(device) ?? []), Number(record.readBigUInt64LE(16))]);
      }
    }
    return found;
  }

  #number(call: (out: [number | null]) => number): { value: number | null; code?: number } {
    const out: [number | null] = [0];
    const code = call(out);
    return code === nvml.success ? { value: out[0] } : { value: null, code };
  }

  #text(call: (text: Uint8Array, length: number) => number, length: number): string | null {
    const text = Buffer.alloc(length);
    if (call(text, length) !== nvml.success) {
      return null;
    }
    const end = text.indexOf(0);
    return text.toString('utf8', 0, end < 0 ? length : end);
  }

  #words(code: number): string {
    const words = this.#calls.errorString(code);
    return typeof words === 'string' ? `${words} (${code})` : `code ${code}`;
  }
}

function milli(value: number | null): number | null {
  return value === null ? null : value / 1000;
}
