import { compareIds, type Failure, ID_EPOCH_MS, isTerminal, MACHINE_MADE } from '@baton/domain';
import type { CancelResult } from '../../tasks/cancel.ts';
import type { Grant, Want } from '../../tasks/claim.ts';
import { LOOKED_AT } from '../../tasks/claim-probe.ts';
import type { Ended, EndedWord, Success } from '../../tasks/complete.ts';
import { type StartSweep, UNSTARTED_MS } from '../../tasks/deadlines.ts';
import type { Takers } from '../../tasks/hand-over.ts';
import { INLINE_INPUT_BYTES, type NewTask } from '../../tasks/new-task.ts';
import type { HeldAttempt, Settled, Settlement } from '../../tasks/settle.ts';
import type { KeyHolder } from '../../tasks/submit.ts';
import { beforeInLane, type ModelDatabase, type ModelSession, type ModelTask } from './tables.ts';

/** What a worker's word is about. */
export interface Word {
  taskId: string;
  epoch: number;
  sessionId: string;
}

const keyOf = (key: { namespaceId: number; scope: string; key: string }) =>
  `${key.namespaceId}\n${key.scope}\n${key.key}`;

export function submitTasks(db: ModelDatabase, batch: readonly NewTask[]): Set<string> {
  const stored = new Set<string>();
  const now = db.now();
  for (const task of batch) {
    const { idempotency } = task;
    if (idempotency && !db.omits('idempotency')) {
      const key = keyOf({ namespaceId: task.namespaceId, ...idempotency });
      if (db.idempotency.has(key)) continue;
      const { bodyHash, ttlMs } = idempotency;
      db.idempotency.set(key, { id: task.id, bodyHash, expiresAtMs: now + ttlMs });
    }
    const known = db.tasks.get(task.id);
    if (known) {
      if (!db.omits('repeatable submit')) continue;
      db.takeOut(known);
    }
    const { extra } = task;
    const row: ModelTask = {
      id: task.id,
      bits: BigInt(task.id),
      namespaceId: task.namespaceId,
      routeId: task.routeId,
      maxAttempts: task.maxAttempts,
      startToCloseMs: task.startToCloseMs,
      priority: task.priority,
      retry: (extra?.retry as ModelTask['retry']) ?? null,
      createdAtMs: now,
      idempotencyKey: idempotency?.key ?? null,
      state: task.dueAtMs === null ? 'ready' : 'scheduled',
      laneId: task.laneId,
      epoch: 0,
      attempt: 0,
      crashes: 0,
      infra: 0,
      ooms: 0,
      inline:
        task.dueAtMs === null &&
        !extra?.executor &&
        extra?.progressTimeoutMs === undefined &&
        task.input !== null &&
        task.input.byteLength <= INLINE_INPUT_BYTES,
      position: null,
      dueAtMs: task.dueAtMs,
      lease: null,
      outcomes: known?.outcomes ?? [],
      attempts: known?.attempts ?? [],
      startDeadline:
        extra?.scheduleToStartMs === undefined
          ? null
          : {
              timeoutMs: extra.scheduleToStartMs,
              expiresAtMs: (task.dueAtMs ?? now) + extra.scheduleToStartMs,
            },
    };
    db.tasks.set(row.id, row);
    if (task.dueAtMs === null) db.putReady(row, row.id);
    else db.toWaiting(row, 'scheduled', task.dueAtMs);
    db.log('taskSubmitted', row.id, 0, 0);
    stored.add(row.id);
  }
  return stored;
}

/** @param takers sessions that wait for these tasks, in the order of the batch */
export function submitHanding(
  db: ModelDatabase,
  batch: readonly NewTask[],
  takers: Takers,
): { stored: Set<string>; handed: Map<string, string> } {
  // One look for all: what this statement makes ready is not what was ready before.
  const wasEmpty = new Set([...db.lanes.values()].filter((lane) => lane.ready.length === 0).map((lane) => lane.id));
  const stored = submitTasks(db, batch);
  const handed = new Map<string, string>();
  for (const [i, { id, laneId }] of batch.entries()) {
    const session = takers[i] === null ? undefined : db.sessions.get(takers[i]!);
    if (!session || !stored.has(id) || db.tasks.get(id)!.state !== 'ready') continue;
    if (db.lanes.get(laneId)!.paused && !db.omits('pause guard')) continue;
    if (!wasEmpty.has(laneId)) continue;
    if (!isOpen(db, session)) continue;
    grant(db, db.tasks.get(id)!, session);
    handed.set(id, session.id);
  }
  return { stored, handed };
}

/** Whether a session may be given tasks. */
const isOpen = (db: ModelDatabase, session: ModelSession) =>
  db.omits('session guard') || (session.state === 'active' && !session.heldBack && session.expiresAtMs > db.now());

export function lookUpKeys(
  db: ModelDatabase,
  keys: readonly { namespaceId: number; scope: string; key: string }[],
): (KeyHolder | null)[] {
  return keys.map((key) => {
    const found = db.idempotency.get(keyOf(key));
    return found ? { id: found.id, bodyHash: found.bodyHash } : null;
  });
}

export function dropExpiredKeys(db: ModelDatabase): number {
  const expired = [...db.idempotency].filter(([, holder]) => holder.expiresAtMs < db.now());
  for (const [key] of expired) db.idempotency.delete(key);
  return expired.length;
}

export function claimTasks(db: ModelDatabase, laneIds: readonly number[], wants: readonly Want[]): Grant[] {
  const total = wants.reduce((sum, want) => sum + want.count, 0);
  const heads: ModelTask[] = [];
  for (const laneId of laneIds) {
    const lane = db.lanes.get(laneId);
    if (!lane || (lane.paused && !db.omits('pause guard'))) continue;
    for (let i = 0; i < lane.ready.length && i < total; i++) heads.push(lane.ready[i]!);
  }
  heads.sort(beforeInLane);
  const grants: Grant[] = [];
  let from = 0;
  for (const { sessionId, count } of wants) {
    const to = Math.min(from + count, total);
    const session = db.sessions.get(sessionId);
    const fit = session !== undefined && isOpen(db, session);
    for (let i = from; fit && i < to && i < heads.length; i++) grants.push(grant(db, heads[i]!, session));
    from += count;
  }
  return grants;
}

function grant(db: ModelDatabase, task: ModelTask, session: ModelSession): Grant {
  const place = task.position!;
  const { inline } = task;
  db.takeOut(task);
  if (!db.omits('epoch raised')) task.epoch++;
  task.attempt++;
  task.inline = false;
  db.become(task, 'leased');
  task.position = place;
  task.lease = { sessionId: session.id, grantedAtMs: db.now(), startedAtMs: null, cancelReason: null };
  session.leases.add(task);
  db.log('taskLeased', task.id, task.attempt, session.workerId);
  return {
    sessionId: session.id,
    taskId: task.id,
    laneId: task.laneId,
    epoch: task.epoch,
    attempt: task.attempt,
    maxAttempts: task.maxAttempts,
    startToCloseMs: task.startToCloseMs,
    runId: null,
    encoding: 1,
    input: inline ? new Uint8Array() : null,
  };
}

const isMachineMade = (failure: Failure | null) => failure !== null && MACHINE_MADE.includes(failure.type);

/**
 * At most one task, for a worker whose breaker is half-open and has no probe; it becomes the probe.
 *
 * @param taken what the database took: of lanes whose tasks all failed by the machine it alone knows which failed first
 */
export function claimProbe(db: ModelDatabase, laneIds: readonly number[], sessionId: string, taken?: string): Grant[] {
  const session = db.sessions.get(sessionId);
  const breaker = session && db.breakers.get(session.workerId);
  if (!session || breaker?.state !== 'half_open' || breaker.probe) return [];
  if (session.state !== 'active' || session.expiresAtMs <= db.now()) return [];
  const heads = laneIds.flatMap((id) => {
    const lane = db.lanes.get(id);
    return lane && !lane.paused ? lane.ready.slice(0, 1) : [];
  });
  const failures = [...db.tasks.values()].flatMap(({ routeId, attempts }) =>
    attempts
      .filter(
        (a) => a.workerId === session.workerId && ['failed', 'lost'].includes(a.state) && isMachineMade(a.failure),
      )
      .map(({ endedAtMs }) => ({ routeId, endedAtMs })),
  );
  const newest = failures.sort((a, b) => b.endedAtMs - a.endedAtMs).slice(0, LOOKED_AT);
  const failed = new Set(newest.map(({ routeId }) => routeId));
  // Of the lane: a failure may have moved the task to another one's.
  const clean = heads.filter(({ laneId }) => !failed.has(db.lanes.get(laneId)!.routeId));
  const [first] = (clean.length > 0 ? clean : heads).sort(beforeInLane);
  const head = clean.length > 0 ? first : (heads.find(({ id }) => id === taken) ?? first);
  if (!head) return [];
  const granted = grant(db, head, session);
  breaker.probe = { taskId: granted.taskId, epoch: granted.epoch };
  return [granted];
}

/** The leased task that a worker's word is about, if it holds. */
export function heldBy(db: ModelDatabase, word: Word): ModelTask | undefined {
  const task = db.tasks.get(word.taskId);
  if (!task?.lease) return undefined;
  if (db.omits('fence')) return task;
  return task.epoch === word.epoch && task.lease.sessionId === word.sessionId ? task : undefined;
}

export function completeTasks(db: ModelDatabase, batch: readonly Success[]): Ended[] {
  const now = db.now();
  const ended: Ended[] = [];
  for (const success of batch) {
    const task = heldBy(db, success);
    if (!task) continue;
    const startedAtMs = Math.max(task.lease!.grantedAtMs, now - success.ranUs / 1000);
    const workerId = endLease(db, task, 'succeeded', { startedAtMs, retryDelayMs: null, failure: null });
    db.toEnd(task, {
      state: 'succeeded',
      epoch: task.epoch,
      attempt: task.attempt,
      workerId,
      endedAtMs: now,
      output: success.output,
      failure: null,
      cancelReason: null,
    });
    db.log('taskSucceeded', task.id, task.attempt, workerId);
    ended.push({ taskId: task.id, runId: null });
  }
  return ended;
}

export function alreadyEnded(db: ModelDatabase, results: readonly EndedWord[]): Set<string> {
  const found = new Set<string>();
  for (const { taskId, epoch, sessionId, said } of results)
    for (const { state, failure, ...attempt } of db.tasks.get(taskId)?.attempts ?? []) {
      if (attempt.epoch !== epoch || attempt.sessionId !== sessionId) continue;
      const byWord = state === 'returned' ? failure === null : state !== 'lost';
      const asSaid = !said || state === said || (state === 'cancelled' && said !== 'succeeded');
      if (byWord && asSaid) found.add(taskId);
    }
  return found;
}

export function readHeld(db: ModelDatabase, reports: readonly Word[]): Map<string, HeldAttempt> {
  const held = new Map<string, HeldAttempt>();
  for (const report of reports) {
    const task = heldBy(db, report);
    if (task) held.set(task.id, { ...heldAttempt(task), retry: task.retry, forgiven: 0 });
  }
  return held;
}

export function leasesOf(db: ModelDatabase, sessionIds: readonly string[], limit: number): HeldAttempt[] {
  const held = sessionIds.flatMap((id) => [...(db.sessions.get(id)?.leases ?? [])]);
  return held
    .sort((a, b) => compareIds(a.id, b.id))
    .slice(0, limit)
    .map(heldAttempt);
}

function heldAttempt(task: ModelTask): HeldAttempt {
  const { id, epoch, attempt, crashes, infra, ooms, maxAttempts, laneId } = task;
  const { sessionId, cancelReason } = task.lease!;
  return {
    taskId: id,
    epoch,
    sessionId,
    attempt,
    crashes,
    infra,
    ooms,
    maxAttempts,
    laneId,
    retry: null,
    cancelReason,
  };
}

export function settleTasks(db: ModelDatabase, batch: readonly Settlement[]): Settled[] {
  const now = db.now();
  const settled: Settled[] = [];
  for (const s of batch) {
    const blind = s.attempt === 'lost' && db.omits('sweep fence');
    const task = blind ? db.tasks.get(s.taskId) : heldBy(db, s);
    if (!task) continue;
    const cancelReason = task.lease?.cancelReason ?? null;
    const goesOn = s.next === 'ready' || s.next === 'backoff';
    const next = goesOn && cancelReason !== null && !db.omits('cancel kept') ? 'cancelled' : s.next;
    const reported = s.attempt === 'failed' || s.attempt === 'cancelled';
    const startedAtMs =
      reported && task.lease
        ? Math.max(task.lease.grantedAtMs, now - s.ranUs / 1000)
        : (task.lease?.startedAtMs ?? null);
    const retryDelayMs = next === 'cancelled' && goesOn ? null : s.delayMs;
    const { position } = task;
    const workerId = endLease(db, task, s.attempt, { startedAtMs, retryDelayMs, failure: s.failure }, s.sessionId);
    const { attempt } = task;
    if (s.attempt === 'returned' && !db.omits('return is free')) task.attempt--;
    task.crashes += Number(s.budget === 'crash');
    task.infra += Number(s.budget === 'infra');
    task.ooms += Number(s.budget === 'memory');
    if (next === 'ready' || next === 'backoff') {
      task.laneId = s.laneId ?? task.laneId;
      const began = s.attempt !== 'returned' || startedAtMs !== null || s.ranUs > 0;
      if (task.startDeadline && began)
        task.startDeadline.expiresAtMs = now + (s.delayMs ?? 0) + task.startDeadline.timeoutMs;
      if (next === 'ready') db.toReady(task, position ?? task.id);
      else db.toWaiting(task, 'backoff', now + (db.omits('backoff delay') ? 0 : (s.delayMs ?? 0)));
    } else {
      const { failure } = s;
      db.toEnd(task, {
        state: next,
        epoch: task.epoch,
        attempt,
        workerId,
        endedAtMs: now,
        output: null,
        failure,
        cancelReason,
      });
    }
    const type = (
      { failed: 'taskFailed', cancelled: 'taskCancelled', backoff: 'taskBackoff', ready: 'taskReleased' } as const
    )[next];
    db.log(type, task.id, attempt, workerId);
    settled.push({ taskId: task.id, runId: null, laneId: s.laneId ?? task.laneId, next });
  }
  return settled;
}

/** @returns the worker that held it */
function endLease(
  db: ModelDatabase,
  task: ModelTask,
  state: ModelTask['attempts'][number]['state'],
  more: Pick<ModelTask['attempts'][number], 'startedAtMs' | 'retryDelayMs' | 'failure'>,
  sessionId = task.lease?.sessionId ?? '',
): number {
  const held = task.lease ?? { sessionId, grantedAtMs: db.now() };
  const workerId = db.workerOf(held.sessionId);
  task.attempts.push({
    epoch: task.epoch,
    attempt: task.attempt,
    state,
    sessionId: held.sessionId,
    workerId,
    grantedAtMs: held.grantedAtMs,
    endedAtMs: db.now(),
    ...more,
  });
  db.takeOut(task);
  return workerId;
}

export function cancelTasks(db: ModelDatabase, taskIds: readonly string[], reason: string): Map<string, CancelResult> {
  const results = new Map<string, CancelResult>();
  for (const id of taskIds) {
    const task = db.tasks.get(id);
    if (!task || isTerminal(task.state) || results.has(id)) continue;
    if (task.lease) {
      // Who asks again is told the same; it is said once.
      if (task.lease.cancelReason === null) db.log('taskCancelRequested', id, task.attempt, 0);
      task.lease.cancelReason ??= reason;
      results.set(id, { taskId: id, runId: null, now: 'leased', sessionId: task.lease.sessionId, epoch: task.epoch });
      continue;
    }
    db.takeOut(task);
    db.toEnd(task, {
      state: 'cancelled',
      epoch: task.epoch,
      attempt: task.attempt,
      workerId: null,
      endedAtMs: db.now(),
      output: null,
      failure: null,
      cancelReason: reason,
    });
    db.log('taskCancelled', id, task.attempt, 0);
    results.set(id, { taskId: id, runId: null, now: 'cancelled', sessionId: null, epoch: null });
  }
  return results;
}

/** A retry keeps its task's place in the lane; a scheduled task gets the place of the time it was due. */
export function promoteDue(db: ModelDatabase, limit: number): { laneIds: Set<number>; moved: number } {
  const now = db.now();
  const laneIds = new Set<number>();
  let due: ModelTask[] = [];
  for (const task of db.waiting) if (task.dueAtMs! <= now) due.push(task);
  if (due.length > limit) due = due.sort((a, b) => a.dueAtMs! - b.dueAtMs!).slice(0, limit);
  for (const task of due) {
    const dueId =
      task.state === 'scheduled' ? (BigInt(Math.floor(task.dueAtMs! - ID_EPOCH_MS)) << 22n).toString() : '0';
    db.takeOut(task);
    db.toReady(task, compareIds(dueId, task.id) > 0 ? dueId : task.id);
    db.log('taskReady', task.id, task.attempt, 0);
    laneIds.add(task.laneId);
  }
  return { laneIds, moved: due.length };
}

/**
 * Schedule-to-start times that are over: what is ready has failed; whose lease is not started is named; what began, or waits, is looked
 * at again later; of what has ended the time is forgotten.
 */
export function sweepStartDeadlines(db: ModelDatabase): StartSweep {
  const now = db.now();
  const sweep: StartSweep = { ended: [], unstarted: [] };
  for (const task of db.tasks.values()) {
    const deadline = task.startDeadline;
    if (!deadline || deadline.expiresAtMs > now) continue;
    if (task.state === 'ready') {
      const message = `not started within ${deadline.timeoutMs} ms: no worker took it`;
      const failure = { type: 'TASK_TIMEOUT', nonRetryable: true, message } as const;
      const { epoch, attempt } = task;
      task.startDeadline = null;
      db.takeOut(task);
      const none = { workerId: null, output: null, cancelReason: null };
      db.toEnd(task, { ...none, state: 'failed', epoch, attempt, endedAtMs: now, failure });
      db.log('taskFailed', task.id, attempt, 0);
      sweep.ended.push({ taskId: task.id, runId: null, failure });
    } else if (task.lease) {
      const { sessionId, startedAtMs, grantedAtMs } = task.lease;
      deadline.expiresAtMs = now + (startedAtMs === null ? 1_000 : Math.max(deadline.timeoutMs, 60_000));
      if (startedAtMs === null && grantedAtMs < now - UNSTARTED_MS)
        sweep.unstarted.push({ taskId: task.id, sessionId });
    } else if (db.waiting.has(task)) deadline.expiresAtMs = Math.max(task.dueAtMs! + deadline.timeoutMs, now + 100);
    else task.startDeadline = null;
  }
  return sweep;
}

export function nextDueMs(db: ModelDatabase): number | null {
  let next = Number.POSITIVE_INFINITY;
  for (const task of db.waiting) next = Math.min(next, task.dueAtMs!);
  return next === Number.POSITIVE_INFINITY ? null : Math.max(0, next - db.now());
}

export function overdueLeases(db: ModelDatabase, graceMs: number): (Word & { startToCloseMs: number })[] {
  const now = db.now();
  const overdue: ModelTask[] = [];
  if (db.resumedAtMs >= now - graceMs) return [];
  for (const session of db.sessions.values())
    for (const task of session.leases) {
      const { startedAtMs } = task.lease!;
      if (startedAtMs !== null && startedAtMs + task.startToCloseMs + graceMs < session.renewedAtMs) overdue.push(task);
    }
  return overdue
    .sort((a, b) => compareIds(a.id, b.id))
    .map(({ id, epoch, lease, startToCloseMs }) => ({
      taskId: id,
      epoch,
      sessionId: lease!.sessionId,
      startToCloseMs,
    }));
}
