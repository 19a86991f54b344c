import type { AttemptRow, LaneRow, LogEvent, OutcomeRow, SessionRow, TaskRow, WorkerRow } from './database-dump.ts';
import type { Effect, History } from './history.ts';

/** One lease, ended or not: what `attempts` and `leases` say together. */
export interface Grant {
  readonly taskId: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly sessionId: string;
  /** Null: its session is forgotten. */
  readonly workerId: number | null;
  readonly grantedAtMs: number;
  /** Null: it is held. */
  readonly ended: AttemptRow | null;
}

/** Where a task is, by the rows of the database. */
export interface Place {
  readonly state: string;
  readonly epoch: number;
  readonly attempt: number;
}

/** A history, by what it is looked up by. */
export interface HistoryIndex {
  readonly tasks: ReadonlyMap<string, TaskRow>;
  readonly outcomes: ReadonlyMap<string, OutcomeRow>;
  /** By task, by epoch. */
  readonly grants: ReadonlyMap<string, readonly Grant[]>;
  /** By task, in the order of the log. */
  readonly events: ReadonlyMap<string, readonly LogEvent[]>;
  /** Of each task every row that says where it is; sound is exactly one. */
  readonly places: ReadonlyMap<string, readonly Place[]>;
  readonly sessions: ReadonlyMap<string, SessionRow>;
  readonly workers: ReadonlyMap<number, WorkerRow>;
  readonly lanes: ReadonlyMap<number, LaneRow>;
  /** By task, by start. */
  readonly effects: ReadonlyMap<string, readonly Effect[]>;
  /** Whether the log holds all events of this task. */
  hasAllEvents(task: TaskRow): boolean;
  /** The lease of a task that has this epoch. */
  grant(taskId: string, epoch: number): Grant | undefined;
  /** Postgres or all masters were away at some time within. */
  duringOutage(fromMs: number, toMs: number): boolean;
}

const indexes = new WeakMap<History, HistoryIndex>();

/** Made once for each history, which must not be changed from then on. */
export function indexHistory(history: History): HistoryIndex {
  let index = indexes.get(history);
  if (!index) {
    index = build(history);
    indexes.set(history, index);
  }
  return index;
}

function build({ database, effects, settings }: History): HistoryIndex {
  const sessions = new Map(database.sessions.map((s) => [s.id, s]));
  const grants = new Map<string, Grant[]>();
  for (const ended of database.attempts)
    push(grants, ended.taskId, {
      taskId: ended.taskId,
      epoch: ended.epoch,
      attempt: ended.attempt,
      sessionId: ended.sessionId,
      workerId: ended.workerId,
      grantedAtMs: ended.grantedAtMs,
      ended,
    });
  for (const lease of database.leases)
    push(grants, lease.taskId, {
      taskId: lease.taskId,
      epoch: lease.epoch,
      attempt: lease.attempt,
      sessionId: lease.sessionId,
      workerId: sessions.get(lease.sessionId)?.workerId ?? null,
      grantedAtMs: lease.grantedAtMs,
      ended: null,
    });
  for (const list of grants.values()) list.sort((a, b) => a.epoch - b.epoch);

  const events = new Map<string, LogEvent[]>();
  for (const event of database.events) if (event.taskId !== '') push(events, event.taskId, event);

  const places = new Map<string, Place[]>();
  for (const row of database.ready) push(places, row.taskId, { ...row, state: 'ready' });
  for (const row of database.waiting) push(places, row.taskId, { ...row, state: row.reason });
  for (const row of database.leases) push(places, row.taskId, { ...row, state: 'leased' });
  for (const row of database.outcomes) push(places, row.taskId, row);

  const byTask = new Map<string, Effect[]>();
  for (const effect of effects ?? []) push(byTask, effect.taskId, effect);
  for (const list of byTask.values()) list.sort((a, b) => a.startedAtMs - b.startedAtMs);

  const since = database.eventsSinceMs;
  return {
    tasks: new Map(database.tasks.map((t) => [t.id, t])),
    outcomes: new Map(database.outcomes.map((o) => [o.taskId, o])),
    grants,
    events,
    places,
    sessions,
    workers: new Map(database.workers.map((w) => [w.id, w])),
    lanes: new Map(database.lanes.map((l) => [l.id, l])),
    effects: byTask,
    hasAllEvents: (task) => since === null || task.createdAtMs > since,
    grant: (taskId, epoch) => grants.get(taskId)?.find((g) => g.epoch === epoch),
    duringOutage: (fromMs, toMs) => settings.outages.some((o) => o.fromMs <= toMs && o.toMs >= fromMs),
  };
}

/** Adds to the list of this key. */
export function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
