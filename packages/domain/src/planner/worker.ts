import type { Resources } from '../resources.ts';

/** A device that no lease holds, as far as is known, or one that is next. */
export interface FreeDevice {
  readonly uuid: string;
  readonly model: string;
  /** Free now, bytes. */
  readonly memoryBytes: number;
  /** A lease of this worker has it: a task that is given it waits there until that has ended, and takes no slot before. Default false. */
  readonly isNext?: boolean;
}

/** A task that may be leased. */
export interface ReadyTask {
  readonly id: string;
  readonly laneId: number;
  readonly kind: string;
  /** Higher first. */
  readonly priority: number;
  /** Age: the lower, the older. A whole number below 2^63 as text. */
  readonly position: string;
  /** Null: a slot, and nothing else. */
  readonly resources: Resources | null;
}

/** What is known of how a worker has done so far. */
export interface WorkerRecord {
  readonly completed: number;
  readonly failed: number;
  /** Moving average of how long its tasks ran; null: none has ended. */
  readonly averageMs: number | null;
}

/** A worker that asks for work, with what it has free. */
export interface OfferingWorker extends WorkerRecord {
  readonly id: string;
  /** By which round_robin goes round. */
  readonly name: string;
  readonly slots: number;
  /** Of these, those for tasks with resources: such a task has what it takes up from its grant on, so it must not wait behind others. */
  readonly resourceSlots: number;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly devices: readonly FreeDevice[];
  /** Devices that it has, free or not. */
  readonly gpus: number;
  /** Tasks that it holds. */
  readonly busy: number;
  /** Kinds for which it keeps something ready: a warm process, a model in memory. */
  readonly warm: ReadonlySet<string>;
  /** By kind, the devices that its tasks had last. */
  readonly affinity: ReadonlyMap<string, readonly string[]>;
}

export interface PlannedGrant {
  readonly taskId: string;
  readonly workerId: string;
  /** UUIDs; empty for a task that uses none. */
  readonly devices: readonly string[];
}
