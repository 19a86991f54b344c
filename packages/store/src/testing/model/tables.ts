import { compareIds, EVENT, type Failure, mayMove, type RetryPolicy, type TaskState } from '@baton/domain';

/**
 * What a model can be told to leave out. Each is a guard of the SQL whose loss must be found: by the simulation, or by the
 * comparison with SQL.
 */
export const OMISSIONS = [
  /** A worker's word is taken for whatever lease the task has now: neither epoch nor session is asked. */
  'fence',
  /** What a sweep decided is done to the task, whatever has become of it since. */
  'sweep fence',
  /** A grant does not ask whether the session is active and within its time. */
  'session guard',
  /** A renewal is taken although the session's time is over. */
  'renewal time',
  /** Idempotency keys are not looked at. */
  'idempotency',
  /** A repeated batch is stored again. */
  'repeatable submit',
  /** The epoch stays when a lease is granted. */
  'epoch raised',
  /** After an outage sessions are closed as if there had been none. */
  'outage extension',
  /** A cancel is forgotten when its lease ends otherwise. */
  'cancel kept',
  /** An older life of a worker goes on getting work. */
  'one life',
  /** A retry is due at once. */
  'backoff delay',
  /** A lease that is handed back counts as an attempt. */
  'return is free',
  /** Paused lanes are granted from. */
  'pause guard',
  /** A list of what a worker holds is believed however old it is, and leases are missed after two heartbeats. */
  'fresh list',
  /** An earlier life's registration that comes again takes the worker back. */
  'late registration',
  /** A repeated registration gives a session whose time began with the first. */
  'register renews',
] as const;
export type Omission = (typeof OMISSIONS)[number];

export interface ModelLease {
  sessionId: string;
  grantedAtMs: number;
  startedAtMs: number | null;
  cancelReason: string | null;
}

export interface ModelAttempt {
  epoch: number;
  attempt: number;
  state: 'succeeded' | 'failed' | 'cancelled' | 'lost' | 'returned';
  sessionId: string;
  workerId: number;
  grantedAtMs: number;
  startedAtMs: number | null;
  endedAtMs: number;
  retryDelayMs: number | null;
  failure: Failure | null;
}

export interface ModelOutcome {
  state: 'succeeded' | 'failed' | 'cancelled';
  epoch: number;
  attempt: number;
  workerId: number | null;
  endedAtMs: number;
  output: Uint8Array | null;
  failure: Failure | null;
  cancelReason: string | null;
}

/** A task: its row in `tasks`, and in the one table that says where it stands. */
export interface ModelTask {
  readonly id: string;
  readonly bits: bigint;
  readonly namespaceId: number;
  readonly routeId: number;
  readonly maxAttempts: number;
  readonly startToCloseMs: number;
  readonly priority: number;
  readonly retry: Partial<RetryPolicy> | null;
  readonly createdAtMs: number;
  readonly idempotencyKey: string | null;
  state: TaskState;
  laneId: number;
  epoch: number;
  attempt: number;
  crashes: number;
  infra: number;
  ooms: number;
  /** Its input rides along in `ready`. */
  inline: boolean;
  /** Place in the lane; null while it waits and once it has ended. */
  position: string | null;
  /** While it waits for a time. */
  dueAtMs: number | null;
  lease: ModelLease | null;
  /** In the order in which they were written; more than one is a defect. */
  outcomes: ModelOutcome[];
  attempts: ModelAttempt[];
  /** `start_deadlines`. */
  startDeadline: { timeoutMs: number; expiresAtMs: number } | null;
}

export interface ModelWorker {
  id: number;
  namespaceId: number;
  name: string;
  /** Its newest session. */
  sessionId: string;
  capabilities: object;
}

export interface ModelSession {
  readonly id: string;
  readonly namespaceId: number;
  readonly workerId: number;
  readonly instanceId: string;
  state: 'active' | 'draining' | 'closed';
  shutdown: boolean;
  heldBack: boolean;
  reason: string | null;
  expiresAtMs: number;
  renewedAtMs: number;
  readonly registeredAtMs: number;
  /** Number of the newest heartbeat. */
  beat: bigint;
  /** Leases that it is asked to hand back unstarted. */
  recall: number;
  readonly leases: Set<ModelTask>;
}

/** The breaker of a worker as a whole; devices have none here. */
export interface ModelBreaker {
  state: 'closed' | 'open' | 'half_open';
  probe: { taskId: string; epoch: number } | null;
}

export interface ModelEvent {
  atMs: number;
  type: number;
  taskId: string;
  attempt: number;
  workerId: number;
}

export interface ModelLane {
  readonly id: number;
  readonly routeId: number;
  readonly namespaceId: number;
  paused: boolean;
  /** Sorted: the head is first. */
  readonly ready: ModelTask[];
}

/** A step that the transition table of the domain does not have. */
export class IllegalTransition extends Error {
  override readonly name = 'IllegalTransition';
}

/**
 * The database, in memory. Functions of the same names as the store's work on it as the statements do on Postgres, each whole or
 * not at all. Time comes from `now`, ms since the epoch; nothing here is random.
 */
export class ModelDatabase {
  readonly tasks = new Map<string, ModelTask>();
  readonly lanes = new Map<number, ModelLane>();
  /** By time of becoming due; looked at as a whole. */
  readonly waiting = new Set<ModelTask>();
  readonly workers = new Map<string, ModelWorker>();
  readonly sessions = new Map<string, ModelSession>();
  readonly idempotency = new Map<string, { id: string; bodyHash: Uint8Array; expiresAtMs: number }>();
  /** By worker. */
  readonly breakers = new Map<number, ModelBreaker>();
  readonly events: ModelEvent[] = [];
  /** Steps that the transition table does not have. A sound model makes none. */
  readonly illegal: string[] = [];
  sweptAtMs: number;
  /** When the sweep went on after an outage. */
  resumedAtMs = Number.NEGATIVE_INFINITY;
  readonly now: () => number;
  readonly #without: ReadonlySet<Omission>;

  constructor(now: () => number, without: Iterable<Omission> = []) {
    this.now = now;
    this.sweptAtMs = now();
    this.#without = new Set(without);
  }

  omits(guard: Omission): boolean {
    return this.#without.has(guard);
  }

  addLane(lane: { id: number; routeId: number; namespaceId: number }): void {
    this.lanes.set(lane.id, { ...lane, paused: false, ready: [] });
  }

  log(type: keyof typeof EVENT, taskId: string, attempt: number, workerId: number): void {
    this.events.push({ atMs: this.now(), type: EVENT[type], taskId, attempt, workerId });
  }

  workerOf(sessionId: string): number {
    return this.sessions.get(sessionId)?.workerId ?? 0;
  }

  /** Takes the row out of the table where it is. The state is set by whoever puts it elsewhere. */
  takeOut(task: ModelTask): void {
    if (task.lease) {
      this.sessions.get(task.lease.sessionId)?.leases.delete(task);
      task.lease = null;
    }
    this.waiting.delete(task);
    if (task.state !== 'ready') return;
    const { ready } = this.lanes.get(task.laneId)!;
    const at = ready.indexOf(task);
    if (at >= 0) ready.splice(at, 1);
  }

  /** The one setter of a task's state. */
  become(task: ModelTask, to: TaskState): void {
    if (!mayMove(task.state, to)) this.illegal.push(`${task.id}: ${task.state} → ${to}`);
    task.state = to;
  }

  toReady(task: ModelTask, position: string): void {
    this.become(task, 'ready');
    this.putReady(task, position);
  }

  /** Among its equals by priority, then by position. */
  putReady(task: ModelTask, position: string): void {
    task.position = position;
    task.dueAtMs = null;
    const { ready } = this.lanes.get(task.laneId)!;
    let at = ready.length;
    while (at > 0 && beforeInLane(task, ready[at - 1]!) < 0) at--;
    ready.splice(at, 0, task);
  }

  toWaiting(task: ModelTask, as: 'scheduled' | 'backoff', dueAtMs: number): void {
    if (as === 'backoff') this.become(task, as);
    task.position = null;
    task.dueAtMs = dueAtMs;
    this.waiting.add(task);
  }

  toEnd(task: ModelTask, outcome: ModelOutcome): void {
    this.become(task, outcome.state);
    task.position = null;
    task.dueAtMs = null;
    task.outcomes.push(outcome);
  }
}

/** By priority, then by age. */
export function beforeInLane(a: ModelTask, b: ModelTask): number {
  return b.priority - a.priority || compareIds(a.position!, b.position!) || compareIds(a.id, b.id);
}
