import type { BreakerState, Failure, RetryPolicy } from '@baton/domain';

/** What the database held at one moment. `readHistory` fills it from Postgres; a simulation fills it from its model. */
export interface DatabaseDump {
  readonly takenAtMs: number;
  readonly tasks: readonly TaskRow[];
  readonly attempts: readonly AttemptRow[];
  readonly outcomes: readonly OutcomeRow[];
  readonly ready: readonly PlaceRow[];
  readonly waiting: readonly WaitingRow[];
  readonly leases: readonly LeaseRow[];
  readonly lanes: readonly LaneRow[];
  readonly sessions: readonly SessionRow[];
  readonly workers: readonly WorkerRow[];
  /** In the order of the log: (xid, id, ordinal). A task's own sequence is its events in this order. */
  readonly events: readonly LogEvent[];
  /** Retention has dropped the events before this time: those of older tasks are not looked at. Null: all are there. */
  readonly eventsSinceMs: number | null;
  readonly runs: readonly RunRow[];
  readonly runNodes: readonly RunNodeRow[];
  /** What each node needs, by `workflowKey`. */
  readonly workflows: readonly WorkflowRow[];
  readonly checkpoints: readonly CheckpointRow[];
  /** The last number given, by task. Null: this database knows no checkpoints. */
  readonly checkpointCounters: ReadonlyMap<string, number> | null;
  /** When functions added to their journals. Absent: this database knows none. */
  readonly journal?: readonly JournalWrite[];
  /** In their order. Null: this database knows no breakers. */
  readonly breakerChanges: readonly BreakerChange[] | null;
  readonly idempotency: readonly IdempotencyRow[];
  /** Connections of others: with a statement that runs for over a second, or idle within a transaction. Null: not looked at. */
  readonly activity: { readonly active: number; readonly idleInTransaction: number } | null;
  /** Runs that something is still to be done for. */
  readonly advances: number;
  /** Devices that leases have. Absent: this database knows none. */
  readonly deviceLeases?: readonly DeviceLeaseRow[];
}

export interface JournalWrite {
  readonly runId: string;
  readonly atMs: number;
}

export interface TaskRow {
  readonly id: string;
  readonly namespace: string;
  readonly kind: string;
  readonly laneId: number;
  readonly createdAtMs: number;
  readonly dueAtMs: number | null;
  readonly runId: string | null;
  readonly nodeId: string | null;
  /** Of a node that runs once for each item. */
  readonly item?: number | null;
  readonly retryOf: string | null;
  readonly maxAttempts: number;
  /** Where it is not the default. */
  readonly retry: Partial<RetryPolicy> | null;
  readonly key: string | null;
  /** Its label `mark`. */
  readonly mark: string | null;
}

export type AttemptState = 'succeeded' | 'failed' | 'cancelled' | 'lost' | 'returned';

export interface AttemptRow {
  readonly taskId: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly state: AttemptState;
  readonly sessionId: string;
  readonly workerId: number;
  readonly grantedAtMs: number;
  readonly startedAtMs: number | null;
  readonly endedAtMs: number;
  readonly retryDelayMs: number | null;
  /** Of failed and lost ones; of a returned one: the master took the lease back. */
  readonly failure: (Failure & { readonly device?: string }) | null;
}

export interface OutcomeRow {
  readonly taskId: string;
  readonly state: 'succeeded' | 'failed' | 'cancelled';
  readonly endedAtMs: number;
  /** 0: it was never leased. */
  readonly epoch: number;
  readonly attempt: number;
  /** Hex; null: no output. */
  readonly outputSha256: string | null;
}

/** A task that waits, in `ready`. */
export interface PlaceRow {
  readonly taskId: string;
  readonly epoch: number;
  /** Attempts begun so far. */
  readonly attempt: number;
}

export interface WaitingRow extends PlaceRow {
  readonly reason: 'scheduled' | 'backoff' | 'blocked';
  readonly dueAtMs: number | null;
}

export interface LeaseRow {
  readonly taskId: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly sessionId: string;
  readonly grantedAtMs: number;
  readonly startedAtMs: number | null;
}

export interface DeviceLeaseRow {
  /** 0: its UUID is unique in the world; else the worker. */
  readonly scope: number;
  readonly uuid: string;
  /** 0 or 1: one runs, and one waits for it. */
  readonly place: number;
  readonly workerId: number;
  readonly taskId: string;
  readonly epoch: number;
}

export interface LaneRow {
  readonly id: number;
  readonly namespace: string;
  readonly queue: string;
  readonly kind: string;
  readonly executor: string;
  readonly taskClass: string;
  readonly tags: readonly string[];
}

export interface SessionRow {
  readonly id: string;
  readonly workerId: number;
  readonly state: 'active' | 'draining' | 'closed';
  readonly registeredAtMs: number;
  readonly renewedAtMs: number;
  readonly expiresAtMs: number;
}

export interface WorkerRow {
  readonly id: number;
  readonly namespace: string;
  readonly name: string;
  /** Its newest session; `capabilities` are what that one registered. */
  readonly sessionId: string;
  readonly capabilities: {
    readonly slots?: number;
    readonly taskClasses?: readonly string[];
    readonly tags?: readonly string[];
    readonly executors?: readonly string[];
    readonly kinds?: readonly string[];
    readonly queues?: readonly string[];
  };
}

export interface LogEvent {
  /** Number of baton.v1.EventType. */
  readonly type: number;
  /** Empty: none. */
  readonly taskId: string;
  /** Empty: none. */
  readonly runId: string;
  /** 0: none. */
  readonly attempt: number;
  readonly atMs: number;
}

export interface RunRow {
  readonly id: string;
  readonly namespace: string;
  readonly workflowKey: string;
  readonly workflow: string;
  readonly state: 'pending' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'cancelled';
  /** Default graph: its nodes say how it stands. */
  readonly form?: 'graph' | 'function';
  /** The run that started it. */
  readonly parentRunId?: string | null;
  readonly execution: number;
  readonly createdAtMs: number;
  readonly key: string | null;
  readonly mark: string | null;
}

export interface RunNodeRow {
  readonly runId: string;
  readonly nodeId: string;
  readonly state: 'pending' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
  readonly taskId: string | null;
}

export interface WorkflowRow {
  readonly key: string;
  /** `needs`: those that must have had a task that succeeded. `fanNeeds`: those whose items all must have. */
  readonly nodes: readonly {
    readonly id: string;
    readonly needs: readonly string[];
    readonly fanNeeds?: readonly string[];
  }[];
}

export interface CheckpointRow {
  readonly taskId: string;
  readonly number: number;
  readonly epoch: number;
  readonly createdAtMs: number;
  readonly saveId: string;
}

export interface BreakerChange {
  readonly workerId: number;
  /** Empty: the worker itself. */
  readonly device: string;
  readonly from: BreakerState;
  readonly to: BreakerState;
  readonly atMs: number;
  readonly reason: string;
}

export interface IdempotencyRow {
  readonly namespace: string;
  /** "task:" and the kind, or "run:" and the workflow. */
  readonly scope: string;
  readonly key: string;
  /** The task or run. */
  readonly id: string;
}
