import { type Lease, OfferedDeviceSchema, ResourcesSchema } from '@baton/contract';
import { type DeviceBook, noDevices } from '@baton/hardware';
import { create } from '@bufbuild/protobuf';
import type { OfferedRoom } from '../calls/exchange.ts';

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
  /** By device, who has it next, and how that one is told. */
  readonly #next = new Map<string, { lease: Lease; holder: object; onTurn: (misfit?: string) => void }>();

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
   *
   * A lease of one device that another has is the next there: it has its CPUs and memory at once, `waits` is true, and `onTurn` is called
   * when it has the device, or with what is in the way of that.
   */
  take(lease: Lease, holder: object, onTurn?: (misfit?: string) => void): { misfit?: string; waits?: boolean } {
    const { resources, devices } = lease;
    const cpus = resources?.cpus ?? 0;
    const memory = Number(resources?.memoryBytes ?? 0n);
    if (cpus > this.#cpus - this.#cpusTaken + rounding) return { misfit: 'too few CPUs are free' };
    if (memory > this.#memoryBytes - this.#memoryTaken) return { misfit: 'too little memory is free' };
    const unusable = this.#unusable(devices);
    if (unusable !== undefined) return { misfit: unusable };
    const taken = devices.find((uuid) => this.#devicesTaken.has(uuid));
    if (taken !== undefined && (devices.length > 1 || onTurn === undefined || this.#next.has(taken)))
      return { misfit: `device ${taken} is taken` };
    this.#cpusTaken += cpus;
    this.#memoryTaken += memory;
    this.#held++;
    if (taken !== undefined && onTurn !== undefined) {
      this.#next.set(taken, { lease, holder, onTurn });
      return { waits: true };
    }
    this.#begin(devices, holder);
    return {};
  }

  #begin(devices: readonly string[], holder: object): void {
    for (const uuid of devices) this.#devicesTaken.set(uuid, holder);
    if (devices.length > 0) this.#book.leaseBegan?.(devices);
  }

  #unusable(devices: readonly string[]): string | undefined {
    const known = devices.length === 0 ? [] : this.#book.list();
    for (const uuid of devices) {
      const device = known.find((each) => each.uuid === uuid);
      if (device === undefined) return `there is no device ${uuid}`;
      if (!device.usable) return `device ${uuid} is not usable: ${device.reason ?? 'no reason is known'}`;
    }
    return undefined;
  }

  /** Gives back what `take` took. */
  release(lease: Lease, holder: object): void {
    this.#cpusTaken = --this.#held === 0 ? 0 : this.#cpusTaken - (lease.resources?.cpus ?? 0);
    this.#memoryTaken -= Number(lease.resources?.memoryBytes ?? 0n);
    const given = lease.devices.filter((uuid) => this.#devicesTaken.get(uuid) === holder);
    for (const uuid of lease.devices) if (this.#next.get(uuid)?.holder === holder) this.#next.delete(uuid);
    for (const uuid of given) this.#devicesTaken.delete(uuid);
    if (given.length > 0) this.#book.leaseEnded?.(given);
    for (const uuid of given) this.#pass(uuid);
  }

  /** To whom waits for it. */
  #pass(uuid: string): void {
    const next = this.#next.get(uuid);
    if (next === undefined) return;
    this.#next.delete(uuid);
    const misfit = this.#unusable([uuid]);
    if (misfit === undefined) this.#begin([uuid], next.holder);
    next.onTurn(misfit);
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

  /** Devices that a lease has, and for which none waits. */
  nextDevices(): string[] {
    if (this.#devicesTaken.size === 0) return [];
    const waiting = (uuid: string) => this.#devicesTaken.has(uuid) && !this.#next.has(uuid);
    return this.#book.list().flatMap(({ uuid, usable }) => (usable && waiting(uuid) ? [uuid] : []));
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
