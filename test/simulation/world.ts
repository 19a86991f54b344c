import { createIdMaker } from '@baton/domain';
import type { Random } from '@baton/store/testing';
import type { Kernel } from './kernel.ts';
import type { Network, Server } from './network.ts';
import type { Postgres } from './postgres.ts';
import type { MasterApi, Request } from './protocol.ts';
import type { Recorder } from './recorder.ts';

/** What masters and workers can be told to do wrong, beside what the model of the store can leave out. */
export const DEFECTS = [
  /** A worker goes on although it has not been heard for a lease time. */
  'worker clock',
  /** A worker counts its lease time from the answer, not from when it asked. */
  'lease from answer',
  /** Leases that the worker never heard of are never taken back. */
  'unheard leases',
  /** A repeated result is answered as if it were somebody else's. */
  'repeated result',
  /** What could not be delivered to a worker is kept for it however long it takes. */
  'kept for ever',
  /** A worker starts leases of an answer that it may have disowned since, and leases are missed after two heartbeats. */
  'late answers',
  /** A heartbeat that is answered from memory is told a whole lease, whatever the session's row has left. */
  'whole lease',
] as const;
export type Defect = (typeof DEFECTS)[number];

export interface SimLane {
  id: number;
  kind: string;
  tags: string[];
  /** Where a task goes on that ran out of memory; null: there is no bigger machine. */
  biggerLaneId: number | null;
}

/** Everything that is there. */
export interface World {
  readonly kernel: Kernel;
  readonly random: Random;
  readonly network: Network;
  readonly postgres: Postgres;
  readonly recorder: Recorder;
  readonly lanes: readonly SimLane[];
  readonly defects: ReadonlySet<Defect>;
  /** By place; a place without a master is refused. */
  readonly masters: Map<string, Server<MasterApi>>;
  readonly masterPlaces: readonly string[];
  /** What the code of each task does; by id. */
  readonly acts: Map<string, Request>;
  /** Ids of a new life of a master: no two have the same node number. */
  nextNode(): number;
}

export const idMaker = (world: World, skewMs: number) =>
  createIdMaker(world.nextNode(), () => Math.floor(world.postgres.db.now() + skewMs));

const texts = new WeakMap<Uint8Array, string>();

/** An output that says this. Nothing looks at its bytes: making and reading them would cost more than all the rest. */
export function outputOf(text: string): Uint8Array {
  const output = new Uint8Array();
  texts.set(output, text);
  return output;
}

/** What an output says. It stands for its own hash, too. */
export const textOf = (output: Uint8Array): string => texts.get(output) ?? '';
