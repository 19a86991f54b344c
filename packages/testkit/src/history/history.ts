import {
  type BreakerPolicy,
  DEFAULT_BREAKER,
  DEFAULT_RETRY,
  POISON_CRASHES,
  type RetryPolicy,
  type TaskState,
} from '@baton/domain';
import type { DatabaseDump } from './database-dump.ts';

/**
 * All that is checked, as plain data: what clients did and were told, what workers did and were told, what the database holds at the
 * end, what watchers saw, and which faults were fired. Whoever records fills in what it has: null means "not recorded", and what
 * needs it is reported as not applicable; an empty list means "recorded, and there was nothing".
 *
 * Times are milliseconds since the Unix epoch, fractions allowed. Those in `database` are Postgres's; those of clients, workers and
 * watchers are of the machine that ran them, which for a check of the whole has to be the machine of Postgres
 * (`clockToleranceMs` covers what the two may differ by). Ids are decimal texts.
 */
export interface History {
  readonly settings: HistorySettings;
  readonly database: DatabaseDump;
  readonly operations: readonly ClientOperation[] | null;
  readonly calls: readonly WorkerCall[] | null;
  readonly effects: readonly Effect[] | null;
  readonly watchers: readonly Watcher[] | null;
  readonly faults: readonly Fault[] | null;
}

export interface HistorySettings {
  readonly leaseTtlMs: number;
  /** What tasks without a policy of their own get, but for maxAttempts, which each task has. */
  readonly retry: Readonly<RetryPolicy>;
  /** A task that was lost with this many workers is failed. */
  readonly poisonCrashes: number;
  /** How long an idempotency key keeps its task, ms; later the same key may make another. */
  readonly idempotencyTtlMs: number;
  /** Null: what opens and closes breakers is not checked, only their steps are. */
  readonly breaker: Readonly<BreakerPolicy> | null;
  /** Workers register the same whenever they register: then older sessions are checked against what the newest one said. */
  readonly sameCapabilities: boolean;
  /** Most leases that a session may hold beyond its slots; null: leases are not counted, only real processes are. */
  readonly maxPrefetch: number | null;
  /** Time within which all must be settled after the last fault (and after its own submission or due time), ms. */
  readonly livenessMs: number;
  /** By how much clocks of clients and workers may differ from Postgres's. 0 in a simulation. */
  readonly clockToleranceMs: number;
  /**
   * How long a statement that decided on an older snapshot may take to end, ms: an order between two writers by
   * `clock_timestamp()` is not believed within this time where nothing else orders them. 0 in a simulation.
   */
  readonly raceMs: number;
  /** Kinds of faults that must have fired, see `Fault.kind`. Empty: none is asked for. */
  readonly expectedFaults: readonly string[];
  /** Least share of operations that must have been acknowledged, 0 to 1. */
  readonly acknowledgedShare: number;
  /** Time of the last fault; null: none was fired, or nobody recorded when. */
  readonly lastFaultAtMs: number | null;
  /** When the recorder gave up waiting or saw that all was settled; null: the work goes on, liveness is not checked. */
  readonly settledAtMs: number | null;
  /** Postgres or all masters were away: leases are extended by it, and times of expiry within are not checked. */
  readonly outages: readonly { readonly fromMs: number; readonly toMs: number }[];
}

/** The settings of a Baton that nobody has set, on one machine under load. */
export const DEFAULT_HISTORY_SETTINGS: HistorySettings = {
  leaseTtlMs: 30_000,
  retry: DEFAULT_RETRY,
  poisonCrashes: POISON_CRASHES,
  idempotencyTtlMs: 86_400_000,
  breaker: DEFAULT_BREAKER,
  sameCapabilities: false,
  maxPrefetch: null,
  livenessMs: 60_000,
  clockToleranceMs: 50,
  raceMs: 1_000,
  expectedFaults: [],
  acknowledgedShare: 0.5,
  lastFaultAtMs: null,
  settledAtMs: null,
  outages: [],
};

/** How a call ended for whoever made it. */
export interface Answer {
  /** Who made it. */
  readonly by: string;
  readonly invokedAtMs: number;
  /** Null: no answer came. */
  readonly answeredAtMs: number | null;
  /** ok: acknowledged. fail: refused, it has no effect. info: nobody knows, it may land either way, even later. */
  readonly outcome: 'ok' | 'fail' | 'info';
  /** Connect code of a fail or info, e.g. failed_precondition. */
  readonly code?: string;
  /** The stable reason of a refusal, e.g. LEASE_LOST. */
  readonly reason?: string;
}

export type ClientOperation = Answer &
  (
    | SubmitOperation
    | RunOperation
    /** `answered` with ok: over at once, or the worker that holds it was asked. */
    | { readonly type: 'cancel'; readonly taskId: string; readonly answered?: 'cancelled' | 'asked' }
    | { readonly type: 'cancel_run'; readonly runId: string }
    /** An ended task is sent again; `newTaskId` with ok. */
    | { readonly type: 'resend'; readonly taskId: string; readonly newTaskId?: string }
    /** A client was told how a task ended. `outputSha256` in hex, if it had the output. */
    | {
        readonly type: 'see_end';
        readonly taskId: string;
        readonly state: TaskState;
        readonly outputSha256?: string;
      }
    /** From the answer on the worker's present session gets nothing. `sessionId` if the recorder knows it. */
    | { readonly type: 'drain_worker'; readonly worker: string; readonly sessionId?: string }
    | { readonly type: 'reset_breaker'; readonly worker: string; readonly device: string }
    | { readonly type: 'delete_checkpoint'; readonly taskId: string; readonly number: number }
  );

export interface SubmitOperation {
  readonly type: 'submit';
  readonly namespace: string;
  readonly kind: string;
  readonly key: string | null;
  /** Equal for equal requests. Needed where there is a key. */
  readonly body?: string;
  /** The task's label `mark`, unique to this operation (and its repetitions): by it an unknown submit is found in the database. */
  readonly mark: string | null;
  /** With ok. */
  readonly taskId?: string;
}

export interface RunOperation {
  readonly type: 'start_run';
  readonly namespace: string;
  readonly workflow: string;
  readonly key: string | null;
  readonly body?: string;
  /** The run's label `mark`. */
  readonly mark: string | null;
  /** With ok. */
  readonly runId?: string;
}

/** A call by which a worker writes, and its answer. Repetitions by the same worker are calls of their own. */
export type WorkerCall = Answer & {
  readonly sessionId: string;
} & (
    | {
        readonly type: 'complete';
        readonly taskId: string;
        readonly epoch: number;
        /** What the worker said. */
        readonly reported: 'succeeded' | 'failed' | 'cancelled' | 'returned';
      }
    | {
        readonly type: 'checkpoint';
        readonly taskId: string;
        readonly epoch: number;
        /** Made by the worker for this save; a repeated call has the same. */
        readonly saveId: string;
        /** With ok: the number it got. */
        readonly number?: number;
      }
    /** One heartbeat; `held`: leases that the session named. */
    | { readonly type: 'renew'; readonly held: number }
  );

/** A real process (or thread, or function) that worked on a task. */
export interface Effect {
  readonly taskId: string;
  readonly epoch: number;
  readonly sessionId: string;
  readonly startedAtMs: number;
  /** When the process was gone; null: it never was, or nobody saw it go. */
  readonly endedAtMs: number | null;
  /** The checkpoint that it started from; null: it asked and there was none; absent: it did not ask. */
  readonly resumedFrom?: number | null;
  /** SHA-256 of what it handed over as its result, hex. */
  readonly outputSha256?: string;
  /** Devices that it used, by what tells them apart from those of other machines. */
  readonly devices?: readonly string[];
}

/** One watch of one client, over all its connections. */
export interface Watcher {
  readonly name: string;
  /** Absent: all events of the history are of its namespace. */
  readonly namespace?: string;
  /** Event types that it asked for, as numbers; null: all. */
  readonly types: readonly number[] | null;
  /** Tasks that it asked for; null: all. */
  readonly taskIds: readonly string[] | null;
  /** beginning: it began before the first event, or from a time before. later: from some moment on. */
  readonly from: 'beginning' | 'later';
  /** It went on until the log held nothing more for it. */
  readonly complete: boolean;
  /** Each goes on from the cursor of the one before. What was received but not taken over (the cursor lies before it) is not named. */
  readonly connections: readonly { readonly events: readonly SeenEvent[] }[];
}

export interface SeenEvent {
  readonly type: number;
  /** Empty: none. */
  readonly taskId: string;
  /** Empty: none. */
  readonly runId: string;
  readonly attempt: number;
}

export interface Fault {
  /** e.g. kill_worker, stop_master, cut_after_commit, restart_postgres. */
  readonly kind: string;
  readonly atMs: number;
  /** When it was over, e.g. a stopped process resumed; null: it was over at once. */
  readonly untilMs: number | null;
  /** For people. */
  readonly target?: string;
}
