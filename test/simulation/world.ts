import { createIdMaker, type FailureType, type RetryPolicy } from '@baton/domain';
import type { Random } from '@baton/store/testing';
import type { Kernel } from './kernel.ts';
import type { Master } from './master.ts';
import type { Network, Server } from './network.ts';
import type { Postgres } from './postgres.ts';
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
  /** A worker starts leases of an answer that it may have disowned since. */
  'late answers',
] as const;
export type Defect = (typeof DEFECTS)[number];

/** Times in ms: small, so that much happens in a minute of virtual time. */
export const SETTINGS = {
  leaseTtlMs: 5_000,
  heartbeatIntervalMs: 1_500,
  longPollMs: 4_000,
  answerTimeoutMs: 2_000,
  sweepIntervalMs: 1_000,
  drainGraceMs: 1_500,
  farewellMs: 1_000,
  abortGraceMs: 500,
  idempotencyTtlMs: 86_400_000,
  batchRows: 50,
} as const;

export const RETRY: RetryPolicy = { maxAttempts: 4, initialDelayMs: 400, factor: 2, maxDelayMs: 3_000, jitter: 0.2 };

/** What the code of a task does when it is run for the n-th time. */
export interface Act {
  /** `hang`: until it is stopped. `kill`: takes its worker with it. */
  does: 'succeed' | 'fail' | 'hang' | 'kill';
  takesMs: number;
  failure: FailureType;
  nonRetryable: boolean;
  retryAfterMs: number | null;
}

/** A task as a client asks for it. */
export interface Request {
  /** Unique; names the request in what is recorded. */
  mark: string;
  laneId: number;
  priority: number;
  maxAttempts: number;
  startToCloseMs: number;
  delayMs: number | null;
  key: string | null;
  /** Equal for equal requests. */
  body: number;
  acts: readonly Act[];
}

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
  readonly masters: Map<string, Server<Master>>;
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
