import type { GpuProcess, GpuReading } from './reading.ts';

/** What `nvidia-smi` printed is not what it prints. */
export class SmiFormatError extends Error {
  override readonly name = 'SmiFormatError';
}

const few = [
  'index',
  'uuid',
  'name',
  'memory.total',
  'memory.used',
  'utilization.gpu',
  'temperature.gpu',
  'power.draw',
  'driver_version',
] as const;

/** Asked for by `--query-gpu`; older programs refuse those that they do not know. */
export const smiColumns = {
  few,
  all: [
    ...few,
    'power.limit',
    'ecc.errors.corrected.volatile.total',
    'ecc.errors.uncorrected.volatile.total',
    'mig.mode.current',
  ],
} as const satisfies Record<string, readonly string[]>;

const mib = 1024 ** 2;

/**
 * The table that `--query-gpu=… --format=csv,noheader,nounits` prints, one device a line. `[N/A]`, `[Not Supported]` and their like are
 * null and never 0; `[GPU is lost]` and `[Unknown Error]` in place of a memory or temperature mean that the device does not answer.
 * Throws `SmiFormatError`.
 */
export function readGpuTable(
  text: string,
  columns: readonly string[],
): { gpus: (GpuReading & { migMode?: boolean })[]; driverVersion: string | null } {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length === 1 && /^No devices were found/i.test(lines[0]!.trim())) {
    return { gpus: [], driverVersion: null };
  }
  let driverVersion: string | null = null;
  const gpus = lines.map((line) => {
    const cells = line.split(',').map((cell) => cell.trim());
    const cell = (name: string): string | undefined => cells[columns.indexOf(name)];
    const uuid = cell('uuid') ?? '';
    const index = cell('index') ?? '';
    if (cells.length !== columns.length || !/^\d{1,4}$/.test(index) || !/^GPU-/.test(uuid)) {
      throw new SmiFormatError(`nvidia-smi printed what is no line of its table: ${line.slice(0, 200)}`);
    }
    const value = (name: string): number | null => numberOf(cell(name), line);
    const scaled = (name: string, factor: number): number | null => {
      const found = value(name);
      return found === null ? null : Math.round(found * factor);
    };
    driverVersion = cell('driver_version') ?? null;
    const ill = cells.find((each) => /^\[?(GPU is lost|Unknown Error|GPU requires reset)\]?$/i.test(each));
    const memoryBytes = scaled('memory.total', mib);
    return {
      index: Number(index),
      uuid,
      model: cell('name') ?? 'unknown',
      memoryBytes: memoryBytes ?? 0,
      mig: null,
      simulated: false,
      memoryUsedBytes: scaled('memory.used', mib),
      loadPercent: value('utilization.gpu'),
      temperatureC: value('temperature.gpu'),
      powerWatts: value('power.draw'),
      powerLimitWatts: value('power.limit'),
      eccCorrected: value('ecc.errors.corrected.volatile.total'),
      eccUncorrected: value('ecc.errors.uncorrected.volatile.total'),
      remapFailed: null,
      processes: null,
      xids: [],
      lost: ill === undefined ? null : ill.replace(/[[\]]/g, ''),
      ...(cell('mig.mode.current') === 'Enabled' && { migMode: true }),
    };
  });
  return { gpus, driverVersion };
}

/** A number; null for whatever stands in place of one: `[N/A]`, `N/A`, `[Not Supported]`, `[Insufficient Permissions]`, … */
function numberOf(cell: string | undefined, line: string): number | null {
  if (cell === undefined || cell === '' || /^\[.*\]$/.test(cell) || /^(N\/A|GPU is lost|Unknown Error)$/i.test(cell)) {
    return null;
  }
  const value = Number(cell);
  if (!Number.isFinite(value)) {
    throw new SmiFormatError(`nvidia-smi printed "${cell}" for a number: ${line.slice(0, 200)}`);
  }
  return value;
}

/** What `--query-compute-apps=gpu_uuid,pid,used_memory` prints, by device. Throws `SmiFormatError`. */
export function readProcessTable(text: string): Map<string, GpuProcess[]> {
  const found = new Map<string, GpuProcess[]>();
  for (const line of text.split('\n')) {
    if (line.trim() === '' || /^No running processes found/i.test(line.trim())) {
      continue;
    }
    const [uuid = '', pid = '', used] = line.split(',').map((cell) => cell.trim());
    if (!/^(GPU|MIG)-/.test(uuid) || !/^\d+$/.test(pid)) {
      throw new SmiFormatError(`nvidia-smi printed what is no process: ${line.slice(0, 200)}`);
    }
    const memory = numberOf(used, line);
    const process = { pid: Number(pid), memoryBytes: memory === null ? null : memory * mib };
    found.set(uuid, [...(found.get(uuid) ?? []), process]);
  }
  return found;
}

export interface ListedDevice {
  readonly uuid: string;
  readonly slices: readonly { readonly uuid: string; readonly profile: string; readonly memoryBytes: number }[];
}

/** What `nvidia-smi -L` prints: devices, and under each its slices. The memory of a slice is the nominal one of its profile. */
export function readDeviceList(text: string): ListedDevice[] {
  const devices: { uuid: string; slices: { uuid: string; profile: string; memoryBytes: number }[] }[] = [];
  for (const line of text.split('\n')) {
    const gpu = /^GPU \d+: .*\(UUID: (GPU-[^)]+)\)/.exec(line);
    const slice = /^\s+MIG (\S+)\s+Device\s+\d+:\s+\(UUID: (MIG-[^)]+)\)/.exec(line);
    if (gpu !== null) {
      devices.push({ uuid: gpu[1]!, slices: [] });
    } else if (slice !== null) {
      const memory = /\.(\d+)gb/i.exec(slice[1]!);
      devices.at(-1)?.slices.push({
        uuid: slice[2]!,
        profile: slice[1]!,
        memoryBytes: memory === null ? 0 : Number(memory[1]) * 1024 ** 3,
      });
    }
  }
  return devices;
}
