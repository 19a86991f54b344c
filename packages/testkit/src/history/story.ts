import { EVENT, type Failure } from '@baton/domain';
import type { AttemptState, DatabaseDump, TaskRow } from './database-dump.ts';
import type { Draft } from './draft.ts';
import { DEFAULT_HISTORY_SETTINGS, type History } from './history.ts';

type WithoutNull<T, K extends keyof T> = Omit<T, K> & { readonly [P in K]: NonNullable<T[P]> };

/** A history with something recorded of everything. */
export type WholeHistory = Draft<
  Omit<WithoutNull<History, 'operations' | 'calls' | 'effects' | 'watchers' | 'faults'>, 'database'> & {
    readonly database: WithoutNull<DatabaseDump, 'checkpointCounters' | 'breakerChanges' | 'activity'>;
  }
>;

/** What became of a lease, and what follows. */
export interface EndOfLease {
  readonly state: AttemptState;
  readonly next: 'succeeded' | 'failed' | 'cancelled' | 'backoff' | 'ready';
  readonly failure?: Failure;
  readonly delayMs?: number;
  /** Its worker said so (and was answered); not: the master took it back. Default true but for lost ones. */
  readonly reported?: boolean;
}

/** Tells a history step by step, so that its rows, events, calls and effects agree. For examples to check the checker with. */
export interface Story {
  readonly history: WholeHistory;
  /** Database time now, ms. */
  now(): number;
  pass(ms: number): void;
  worker(name: string, slots: number): number;
  /** A life of a worker; an earlier one of it drains. */
  session(workerId: number): string;
  renew(sessionId: string): void;
  /** A task, acknowledged to the client. */
  submit(change?: Partial<Draft<TaskRow>>): string;
  grant(taskId: string, sessionId: string, resumedFrom?: number | null): void;
  save(taskId: string): void;
  end(taskId: string, end: EndOfLease): void;
  /** A task that waits is due. */
  promote(taskId: string): void;
  /** Granted and succeeded. */
  succeed(taskId: string, sessionId: string): void;
  /** One that waits is over at once; the worker of a leased one is asked. */
  cancel(taskId: string): void;
  event(type: number, taskId: string, attempt?: number, runId?: string): void;
}

const BEGIN_MS = 1_800_000_000_000;
const END_EVENTS = {
  succeeded: EVENT.taskSucceeded,
  failed: EVENT.taskFailed,
  cancelled: EVENT.taskCancelled,
  backoff: EVENT.taskBackoff,
  ready: EVENT.taskReleased,
};

export function tellStory(): Story {
  let now = BEGIN_MS;
  let ids = 1000;
  const history: WholeHistory = {
    settings: {
      ...DEFAULT_HISTORY_SETTINGS,
      leaseTtlMs: 10_000,
      clockToleranceMs: 0,
      raceMs: 0,
      expectedFaults: [],
      outages: [],
      lastFaultAtMs: null,
      settledAtMs: null,
    },
    database: {
      takenAtMs: now,
      tasks: [],
      attempts: [],
      outcomes: [],
      ready: [],
      waiting: [],
      leases: [],
      lanes: [
        {
          id: 1,
          namespace: 'default',
          queue: 'default',
          kind: 'sum',
          executor: 'function',
          taskClass: 'cpu_short',
          tags: ['fast'],
        },
      ],
      sessions: [],
      workers: [],
      events: [],
      eventsSinceMs: null,
      runs: [],
      runNodes: [],
      workflows: [],
      checkpoints: [],
      checkpointCounters: new Map(),
      breakerChanges: [],
      idempotency: [],
      activity: { active: 0, idleInTransaction: 0 },
      advances: 0,
    },
    operations: [],
    calls: [],
    effects: [],
    watchers: [],
    faults: [],
  };
  const { database, operations, calls, effects } = history;
  const pass = (ms: number) => {
    now += ms;
    database.takenAtMs = now;
  };
  const answer = (by: string) => ({ by, invokedAtMs: now - 0.5, answeredAtMs: now + 0.5, outcome: 'ok' as const });
  const taskOf = (taskId: string) => database.tasks.find((t) => t.id === taskId)!;
  const event: Story['event'] = (type, taskId, attempt = 0, runId) => {
    const ofTask = taskId === '' ? '' : (taskOf(taskId).runId ?? '');
    database.events.push({ type, taskId, runId: runId ?? ofTask, attempt, atMs: now });
  };
  const take = <T extends { taskId: string }>(list: T[], taskId: string): T =>
    list.splice(
      list.findIndex((row) => row.taskId === taskId),
      1,
    )[0]!;
  const effectOf = (taskId: string, epoch: number) => effects.find((e) => e.taskId === taskId && e.epoch === epoch)!;

  const story: Story = {
    history,
    now: () => now,
    pass,
    worker(name, slots) {
      const id = database.workers.length + 1;
      const capabilities = {
        slots,
        taskClasses: ['cpu_short'],
        tags: ['fast'],
        executors: ['function'],
        kinds: ['sum'],
        queues: [],
      };
      database.workers.push({ id, namespace: 'default', name, sessionId: '', capabilities });
      return id;
    },
    session(workerId) {
      pass(1);
      const id = String(++ids);
      const worker = database.workers[workerId - 1]!;
      for (const session of database.sessions)
        if (session.workerId === workerId && session.state === 'active') session.state = 'draining';
      database.sessions.push({
        id,
        workerId,
        state: 'active',
        registeredAtMs: now,
        renewedAtMs: now,
        expiresAtMs: now + history.settings.leaseTtlMs,
      });
      worker.sessionId = id;
      return id;
    },
    renew(sessionId) {
      const session = database.sessions.find((s) => s.id === sessionId)!;
      session.renewedAtMs = now;
      session.expiresAtMs = now + history.settings.leaseTtlMs;
      const held = database.leases.filter((l) => l.sessionId === sessionId).length;
      calls.push({ ...answer('worker'), type: 'renew', sessionId, held });
    },
    submit(change = {}) {
      pass(1);
      const id = String(++ids);
      const mark = change.runId ? null : `mark ${id}`;
      database.tasks.push({
        id,
        namespace: 'default',
        kind: 'sum',
        laneId: 1,
        createdAtMs: now,
        dueAtMs: null,
        runId: null,
        nodeId: null,
        retryOf: null,
        maxAttempts: 4,
        retry: null,
        key: null,
        mark,
        ...change,
      });
      event(EVENT.taskSubmitted, id);
      const task = taskOf(id);
      if (task.dueAtMs === null) database.ready.push({ taskId: id, epoch: 0, attempt: 0 });
      else database.waiting.push({ taskId: id, epoch: 0, attempt: 0, reason: 'scheduled', dueAtMs: task.dueAtMs });
      if (task.runId === null && task.retryOf === null)
        operations.push({
          ...answer('client'),
          type: 'submit',
          namespace: 'default',
          kind: 'sum',
          key: task.key,
          mark: task.mark,
          taskId: id,
          ...(task.key !== null && { body: 'sum 1' }),
        });
      return id;
    },
    grant(taskId, sessionId, resumedFrom) {
      pass(1);
      const place = take(database.ready, taskId);
      const lease = {
        taskId,
        sessionId,
        epoch: place.epoch + 1,
        attempt: place.attempt + 1,
        grantedAtMs: now,
        startedAtMs: now,
      };
      database.leases.push(lease);
      event(EVENT.taskLeased, taskId, lease.attempt);
      effects.push({
        taskId,
        epoch: lease.epoch,
        sessionId,
        startedAtMs: now + 0.25,
        endedAtMs: null,
        outputSha256: `out ${taskId} ${lease.epoch}`,
        ...(resumedFrom !== undefined && { resumedFrom }),
      });
    },
    save(taskId) {
      pass(1);
      const lease = database.leases.find((l) => l.taskId === taskId)!;
      const number = (database.checkpointCounters.get(taskId) ?? 0) + 1;
      database.checkpointCounters.set(taskId, number);
      const saveId = `save ${taskId} ${number}`;
      database.checkpoints.push({ taskId, number, epoch: lease.epoch, createdAtMs: now, saveId });
      event(EVENT.checkpointSaved, taskId, lease.attempt);
      calls.push({
        ...answer('worker'),
        type: 'checkpoint',
        sessionId: lease.sessionId,
        taskId,
        epoch: lease.epoch,
        saveId,
        number,
      });
    },
    end(taskId, { state, next, failure, delayMs, reported = state !== 'lost' }) {
      pass(10);
      const lease = take(database.leases, taskId);
      const { epoch, sessionId, attempt } = lease;
      const { workerId } = database.sessions.find((s) => s.id === sessionId)!;
      database.attempts.push({
        taskId,
        epoch,
        attempt,
        state,
        sessionId,
        workerId,
        grantedAtMs: lease.grantedAtMs,
        startedAtMs: lease.startedAtMs,
        endedAtMs: now,
        retryDelayMs: delayMs ?? null,
        failure: failure ?? null,
      });
      const used = state === 'returned' ? attempt - 1 : attempt;
      if (next === 'ready') database.ready.push({ taskId, epoch, attempt: used });
      else if (next === 'backoff')
        database.waiting.push({ taskId, epoch, attempt: used, reason: 'backoff', dueAtMs: now + delayMs! });
      else
        database.outcomes.push({
          taskId,
          state: next,
          endedAtMs: now,
          epoch,
          attempt,
          outputSha256: next === 'succeeded' ? `out ${taskId} ${epoch}` : null,
        });
      event(END_EVENTS[next], taskId, attempt);
      if (!reported) return;
      effectOf(taskId, epoch).endedAtMs = now - 0.75;
      if (state !== 'lost')
        calls.push({ ...answer('worker'), type: 'complete', sessionId, taskId, epoch, reported: state });
    },
    promote(taskId) {
      const { epoch, attempt, dueAtMs } = take(database.waiting, taskId);
      pass(Math.max(0, dueAtMs! - now) + 1);
      database.ready.push({ taskId, epoch, attempt });
      event(EVENT.taskReady, taskId, attempt);
    },
    succeed(taskId, sessionId) {
      story.grant(taskId, sessionId);
      story.end(taskId, { state: 'succeeded', next: 'succeeded' });
    },
    cancel(taskId) {
      pass(1);
      const leased = database.leases.find((l) => l.taskId === taskId);
      operations.push({ ...answer('client'), type: 'cancel', taskId, answered: leased ? 'asked' : 'cancelled' });
      if (leased) {
        event(EVENT.taskCancelRequested, taskId, leased.attempt);
        return;
      }
      const { epoch, attempt } = take(database.ready, taskId);
      database.outcomes.push({ taskId, state: 'cancelled', endedAtMs: now, epoch, attempt, outputSha256: null });
      event(EVENT.taskCancelled, taskId, attempt);
    },
    event,
  };
  return story;
}
