/** A device as the worker's offer sees it. */
export interface BookedDevice {
  /** `GPU-…`, `MIG-…`, or `SIM-…` of a declared simulation: what `CUDA_VISIBLE_DEVICES` takes. */
  readonly uuid: string;
  readonly model: string;
  readonly memoryBytes: number;
  /** What nobody has taken. Of a device whose memory cannot be read just now: 0, and it is not usable. */
  readonly freeMemoryBytes: number;
  /** Whether a task may be given it now, as far as its health goes. Says nothing of leases. */
  readonly usable: boolean;
  /** Why not, in words for people; absent where it is usable. */
  readonly reason?: string;
  /** Reported by a declared simulation and not by a device. */
  readonly simulated: boolean;
}

/** What of the machine's devices may be offered. Never blocks and never fails: it tells what the newest measurement said. */
export interface DeviceBook {
  /** All devices of the machine, usable or not, in the order of their index. */
  list(): readonly BookedDevice[];
  /** A lease has these devices from now on: what is on them is the lease's. Default: nobody wants to know. */
  leaseBegan?(devices: readonly string[]): void;
  /** Its code has ended, and its processes are dead as far as the worker knows. */
  leaseEnded?(devices: readonly string[]): void;
}

/** Of a machine without devices. */
export const noDevices: DeviceBook = { list: () => [] };
