import { type Lease, OfferedDeviceSchema, ResourcesSchema } from '@baton/contract';
import { type DeviceBook, noDevices } from '@baton/hardware';
import { create } from '@bufbuild/protobuf';
import type { OfferedRoom } from './exchange.ts';

export interface ResourceAccountsOptions {
  /** Of the machine, for tasks. */
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Default: none. */
  readonly devices?: DeviceBook;
}

/**
 * What of the machine's CPUs, memory and devices is taken by tasks. One for all sessions of a worker: code of a lost session that has
 * not ended yet still has what it was given.
 *
 * Leases without resources take nothing, and are not looked at.
 */
export class ResourceAccounts {
  readonly #cpus: number;
  readonly #memoryBytes: number;
  readonly #book: DeviceBook;
  #cpusTaken = 0;
  #memoryTaken = 0;
  #held = 0;
  readonly #devicesTaken = new Map<string, object>();

  constructor({ cpus, memoryBytes, devices = noDevices }: ResourceAccountsOptions) {
    this.#cpus = cpus;
    this.#memoryBytes = memoryBytes;
    this.#book = devices;
  }

  /** Leases that take up something. */
  get held(): number {
    return this.#held;
  }

  /**
   * Takes what the lease asks for, for `holder`; tells what does not fit, or undefined. The master plans with what was offered, so that
   * something does not fit only where two answers crossed, or a device has fallen ill meanwhile.
   */
  take(lease: Lease, holder: object): string | undefined {
    const { resources, devices } = lease;
    const cpus = resources?.cpus ?? 0;
    const memory = Number(resources?.memoryBytes ?? 0n);
    if (cpus > this.#cpus - this.#cpusTaken + rounding) return 'too few CPUs are free';
    if (memory > this.#memoryBytes - this.#memoryTaken) return 'too little memory is free';
    const known = this.#book.list();
    for (const uuid of devices) {
      const device = known.find((each) => each.uuid === uuid);
      if (device === undefined) return `there is no device ${uuid}`;
      if (!device.usable) return `device ${uuid} is not usable: ${device.reason ?? 'no reason is known'}`;
      if (this.#devicesTaken.has(uuid)) return `device ${uuid} is taken`;
    }
    this.#cpusTaken += cpus;
    this.#memoryTaken += memory;
    for (const uuid of devices) this.#devicesTaken.set(uuid, holder);
    this.#held++;
    if (devices.length > 0) this.#book.leaseBegan?.(devices);
    return undefined;
  }

  /** Gives back what `take` took. */
  release(lease: Lease, holder: object): void {
    this.#cpusTaken = --this.#held === 0 ? 0 : this.#cpusTaken - (lease.resources?.cpus ?? 0);
    this.#memoryTaken -= Number(lease.resources?.memoryBytes ?? 0n);
    const given = lease.devices.filter((uuid) => this.#devicesTaken.get(uuid) === holder);
    for (const uuid of given) this.#devicesTaken.delete(uuid);
    if (given.length > 0) this.#book.leaseEnded?.(given);
  }

  /** What is free now, for an offer. */
  offered(): Pick<OfferedRoom, 'free' | 'devices'> {
    return {
      free: create(ResourcesSchema, {
        cpus: Math.max(0, this.#cpus - this.#cpusTaken),
        memoryBytes: BigInt(Math.max(0, this.#memoryBytes - this.#memoryTaken)),
      }),
      devices: this.#free().map(({ uuid, freeMemoryBytes }) =>
        create(OfferedDeviceSchema, { uuid, freeMemoryBytes: BigInt(Math.max(0, Math.floor(freeMemoryBytes))) }),
      ),
    };
  }

  /** The devices that may be offered now; changes where an open offer has to be made anew. */
  get signature(): string {
    return this.#free()
      .map((device) => device.uuid)
      .join();
  }

  #free() {
    const devices = this.#book.list();
    return devices.length === 0
      ? devices
      : devices.filter((device) => device.usable && !this.#devicesTaken.has(device.uuid));
  }
}

/** Of sums of parts of CPUs. */
const rounding = 1e-9;

/** Whether a lease takes up something beside its slot. */
export function takesRoom(lease: Lease): boolean {
  return lease.resources !== undefined || lease.devices.length > 0;
}
