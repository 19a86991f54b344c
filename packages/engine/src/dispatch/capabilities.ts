import type { ExecutorType, TaskClass, Tool } from '@baton/domain';

/** What a worker says of itself, kept as it said it. */
export interface Capabilities {
  taskClasses: TaskClass[];
  tags: string[];
  executors: ExecutorType[];
  kinds: string[];
  queues: string[];
  slots: number;
  /** That the worker speaks; absent: 1. */
  protocolVersion?: number;
  /** Of the machine; 0 or absent: not said. */
  memoryBytes?: number;
  /** 0 or absent: not said. */
  cpus?: number;
  os?: string;
  arch?: string;
  hostname?: string;
  tools?: Tool[];
  gpus?: {
    uuid: string;
    memoryBytes: number;
    model?: string;
    simulated?: boolean;
    mig?: boolean;
    [more: string]: unknown;
  }[];
  [more: string]: unknown;
}

/** A device of a worker, as it said when it registered. */
export interface AbleDevice {
  uuid: string;
  model: string;
  memoryBytes: number;
  simulated: boolean;
  /** A slice of a device. */
  mig: boolean;
}

/** What a session can do, as it matters for lanes. */
export interface Ability {
  namespaceId: number;
  workerId: number;
  workerName: string;
  taskClasses: readonly TaskClass[];
  tags: readonly string[];
  executors: readonly ExecutorType[];
  kinds: readonly string[];
  /** Empty: all. */
  queues: readonly string[];
  protocolVersion: number;
  /** 0: not known. */
  memoryBytes: number;
  /** 0: not known. */
  cpus: number;
  os: string;
  arch: string;
  hostname: string;
  slots: number;
  tools: readonly Tool[];
  gpus: readonly AbleDevice[];
  /** UUIDs of devices that no task may use now. */
  readonly quarantinedDevices: readonly string[];
}
