/** A process that holds memory of a device. */
export interface GpuProcess {
  readonly pid: number;
  /** Null: the driver does not say. */
  readonly memoryBytes: number | null;
}

/** What a device says of itself at one moment. What cannot be read is null and never 0. */
export interface GpuReading {
  readonly index: number;
  /** `GPU-…`; of a slice `MIG-…`; of a declared simulation `SIM-…`. */
  readonly uuid: string;
  readonly model: string;
  readonly memoryBytes: number;
  /** Of a slice of a divided device (MIG): the whole device, and the profile such as `1g.10gb`. */
  readonly mig: { readonly parentUuid: string; readonly profile: string } | null;
  readonly simulated: boolean;
  readonly memoryUsedBytes: number | null;
  readonly loadPercent: number | null;
  readonly temperatureC: number | null;
  readonly powerWatts: number | null;
  readonly powerLimitWatts: number | null;
  /** Since the driver was loaded. */
  readonly eccCorrected: number | null;
  readonly eccUncorrected: number | null;
  /** A row of its memory is broken and could not be replaced by a spare one. */
  readonly remapFailed: boolean | null;
  /** Null: the driver does not say. */
  readonly processes: readonly GpuProcess[] | null;
  /** Errors that the driver reported since the reading before; see xid.ts. */
  readonly xids: readonly number[];
  /** The device does not answer, in the driver's words; then most of the rest is null. */
  readonly lost: string | null;
}

export type DeviceSource = 'nvml' | 'nvidia-smi' | 'simulated' | 'none';

/** All devices at one moment. */
export type DevicesReading =
  | {
      readonly state: 'known';
      readonly source: DeviceSource;
      readonly gpus: readonly GpuReading[];
      readonly driverVersion: string | null;
    }
  /** The driver did not answer, or not in a way that could be understood. */
  | { readonly state: 'unknown'; readonly source: DeviceSource; readonly reason: string };

/**
 * Access to the GPUs of this machine. `read` always resolves, within a limit, whatever the driver does; calls at the same time share
 * one reading.
 */
export interface Devices {
  readonly source: DeviceSource;
  read(): Promise<DevicesReading>;
  close(): Promise<void>;
}

/** This way of reading devices does not exist on this machine: no driver, no program, no library. Not a fault of a device. */
export class NoDriverError extends Error {
  override readonly name = 'NoDriverError';
}

/** Of a machine that has none, or whose worker was told to look for none. */
export const noGpus: Devices = {
  source: 'none',
  read: async () => ({ state: 'known', source: 'none', gpus: [], driverVersion: null }),
  close: async () => {},
};
