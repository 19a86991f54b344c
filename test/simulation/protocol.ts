import type { Failure, FailureType } from '@baton/domain';
import type { Grant, HeldByWorker } from '@baton/store';
import type { model } from '@baton/store/testing';
import type { Steps } from './kernel.ts';
import type { Call } from './network.ts';

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

export type Outcome =
  | { type: 'success'; output: Uint8Array }
  | { type: 'failure'; failure: Failure }
  | { type: 'cancelled' }
  | { type: 'returned' };

export interface Report {
  taskId: string;
  epoch: number;
  outcome: Outcome;
  ranUs: number;
}

export interface Orders {
  cancels: { taskId: string; epoch: number; reason: string }[];
  drain: boolean;
  shutdown: boolean;
}

export interface ExchangeInput {
  sessionId: string;
  results: Report[];
  offer: { number: number; free: number } | null;
  waitMs: number;
}

export interface HeartbeatInput {
  sessionId: string;
  number: number;
  count: number;
  xor: bigint;
  held: HeldByWorker[];
  heldIsComplete: boolean;
  draining: boolean;
}

export interface HeartbeatOutput {
  /** What the session has left, from when the heartbeat was heard. */
  leaseTtlMs: number;
  sendHeld: boolean;
  lost: model.Word[];
  orders: Orders;
}

/** The state of an attempt that a worker's word makes. */
export const SAID = { success: 'succeeded', failure: 'failed', cancelled: 'cancelled', returned: 'returned' } as const;

/** What a master says of work that should have ended, and whose worker does not say so. */
export const OVERDUE = 'not ended in time';

/** What a session that is over is answered with. */
export const SESSION_LOST = 'SESSION_LOST';

/** What a master answers to: workers, then clients. */
export interface MasterApi {
  register(name: string, instanceId: string, laneIds: number[]): Steps<{ sessionId: string }>;
  exchange(input: ExchangeInput, call: Call): Steps<{ refused: Report[]; grants: Grant[]; orders: Orders }>;
  heartbeat(input: HeartbeatInput): Steps<HeartbeatOutput>;
  leave(sessionId: string): Steps<void>;
  submit(request: Request): Steps<{ taskId: string; deduplicated: boolean }>;
  cancel(taskId: string, reason: string): Steps<'cancelled' | 'leased'>;
  read(taskId: string): Steps<model.ModelTask['state']>;
}
