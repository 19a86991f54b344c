import { type Failure, isId, notFound, type TaskState } from '@baton/domain';
import { type PastLease, readRecord, type TaskRecord, type TaskRow } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { createNamespaceFinder } from '../namespaces.ts';

/** One thing that happened to a task. */
export interface HistoryEntry {
  at: Date;
  what:
    | 'submitted'
    | 'ready'
    | 'granted'
    | 'started'
    | 'progress'
    | 'checkpoint'
    | 'cancel_requested'
    | 'attempt_ended'
    | 'backoff'
    | 'ended'
    | 'resent';
  /** The task's state from then on; null where it did not change. */
  state: TaskState | null;
  attempt: number;
  epoch: number;
  worker: string;
  attemptState: PastLease['state'] | 'running' | null;
  failure: Failure | null;
  retryDelayMs: number | null;
  checkpoint: string | null;
  message: string;
}

/** Everything that happened to a task, oldest first. @throws Refusal TASK_NOT_FOUND */
export type ReadHistory = (namespace: string, id: string) => Promise<{ task: TaskRow; entries: HistoryEntry[] }>;

export function createHistory(env: EngineEnvironment): ReadHistory {
  const namespaceId = createNamespaceFinder(env);
  return async (namespace, id) => {
    const ns = isId(id) ? await namespaceId(namespace) : null;
    const record = ns === null ? null : await readRecord(env.pools.api, ns, id);
    if (!record) throw notFound('task', id);
    return { task: record.task, entries: historyOf(record) };
  };
}

/**
 * The life of a task, told from what is kept of it. Moves that leave no row of their own follow from what came next: a task that was
 * granted had become ready before. Its states are steps of the transition table, and the last one is the task's.
 */
export function historyOf(record: TaskRecord): HistoryEntry[] {
  const { task, past, held, end } = record;
  const entries: HistoryEntry[] = [];
  const add = (at: Date, what: HistoryEntry['what'], more: Partial<HistoryEntry> = {}) => {
    entries.push({ ...NOTHING, at, what, ...more });
  };

  const submitted: TaskState = record.dueAt ? 'scheduled' : 'ready';
  const again = task.retryOf === null ? '' : `sends task ${task.retryOf} again`;
  const firstLease = past[0] ?? held;
  const isBlocked = task.state === 'blocked' && !firstLease;
  add(task.createdAt, 'submitted', {
    state: isBlocked ? 'blocked' : submitted,
    message: record.dueAt ? join(`due ${record.dueAt.toISOString()}`, again) : again,
  });
  if (submitted === 'scheduled') becomesReady(record.dueAt!, firstLease?.grantedAt);

  /** From waiting for a time: when that was over, if anything shows that it went on. */
  function becomesReady(dueAt: Date, nextGrantAt: Date | undefined): void {
    const at = dueAt > entries.at(-1)!.at ? dueAt : entries.at(-1)!.at;
    if (nextGrantAt) add(at < nextGrantAt ? at : nextGrantAt, 'ready', { state: 'ready' });
    else if (end ? end.state === 'failed' || end.at > at : task.state === 'ready') add(at, 'ready', { state: 'ready' });
  }

  past.forEach((lease, i) => {
    const { attempt, epoch, worker, endedAt, retryDelayMs } = lease;
    tellLease(lease, endedAt);
    const own = { attempt, epoch, worker };
    const ended = { attemptState: lease.state, failure: lease.failure, retryDelayMs };
    add(endedAt, 'attempt_ended', { ...own, ...ended, message: lease.failure?.message ?? '' });
    if (end && end.epoch === epoch && end.at.getTime() === endedAt.getTime() && i === past.length - 1) return;
    if (retryDelayMs === null) {
      add(endedAt, 'ready', { state: 'ready', message: BACK[lease.state] ?? '' });
      return;
    }
    add(endedAt, 'backoff', {
      state: 'backoff',
      retryDelayMs,
      message: `the next attempt is due after ${retryDelayMs} ms`,
    });
    becomesReady(new Date(endedAt.getTime() + retryDelayMs), (past[i + 1] ?? held)?.grantedAt);
  });
  if (held) tellLease(held, null);

  /** Grant, start, and what the task did and was told in between. */
  function tellLease(
    lease: { attempt: number; epoch: number; worker: string; grantedAt: Date; startedAt: Date | null },
    endedAt: Date | null,
  ): void {
    const { attempt, epoch, worker } = lease;
    const own = { attempt, epoch, worker };
    add(lease.grantedAt, 'granted', { ...own, state: 'leased', attemptState: endedAt ? null : 'running' });
    const within: Partial<HistoryEntry>[] = [];
    if (lease.startedAt) within.push({ ...own, at: lease.startedAt, what: 'started' });
    for (const c of record.checkpoints)
      if (c.epoch === epoch) {
        const score = c.score === null ? '' : `, score ${c.score}`;
        within.push({
          ...own,
          at: c.at,
          what: 'checkpoint',
          checkpoint: c.number,
          message: `${c.sizeBytes} bytes${score}`,
        });
      }
    for (const c of record.cancels)
      if (c.epoch === epoch) within.push({ ...own, at: c.at, what: 'cancel_requested', message: c.reason });
    const { progress } = record;
    if (progress?.epoch === epoch) {
      const percent = progress.fraction === null ? '' : `${Math.round(progress.fraction * 100)} %`;
      within.push({ ...own, at: progress.at, what: 'progress', message: join(percent, progress.message ?? '') });
    }
    within.sort((a, b) => a.at!.getTime() - b.at!.getTime());
    for (const { at, what, ...more } of within) add(at!, what!, more);
  }

  if (end) {
    const last = past.at(-1);
    const own = last && last.epoch === end.epoch ? { attempt: last.attempt, epoch: last.epoch } : {};
    add(end.at, 'ended', {
      ...own,
      state: end.state,
      worker: end.worker ?? '',
      failure: end.failure,
      message: end.state === 'cancelled' ? (end.cancelReason ?? '') : (end.failure?.message ?? ''),
    });
  }
  for (const { id, at } of record.resent) add(at, 'resent', { message: `as task ${id}` });
  return entries;
}

const NOTHING: Omit<HistoryEntry, 'at' | 'what'> = {
  state: null,
  attempt: 0,
  epoch: 0,
  worker: '',
  attemptState: null,
  failure: null,
  retryDelayMs: null,
  checkpoint: null,
  message: '',
};

/** Why a task that was leased is ready again. */
const BACK: Partial<Record<PastLease['state'], string>> = {
  lost: 'its worker was lost',
  returned: 'the lease was handed back',
};

function join(...parts: string[]): string {
  return parts.filter((part) => part !== '').join(', ');
}
