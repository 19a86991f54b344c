import { OUTAGE_MS, type SweptSession } from '../../tasks/sweep.ts';
import type {
  HeldByWorker,
  Reconciliation,
  Registration,
  Renewal,
  Renewed,
  SessionInfo,
} from '../../workers/sessions.ts';
import type { ModelDatabase, ModelSession, ModelTask, ModelWorker } from './tables.ts';
import { heldBy } from './tasks.ts';

const REPLACED = 'another life of this worker registered';

/** Several statements, as in the store: `openSession`, `replaceSessions`, and `registerAgain` where nothing was opened. */
export function registerWorker(db: ModelDatabase, r: Registration): { sessionId: string; workerId: number } {
  const worker = openSession(db, r);
  replaceSessions(db, worker);
  holdBackAsBreakerSays(db, worker.id);
  return registerAgain(db, worker, r);
}

/** Of a new instance; it becomes the worker's newest, and others get no more work. */
export function openSession(db: ModelDatabase, r: Registration): ModelWorker {
  const now = db.now();
  const name = `${r.namespaceId}\n${r.name}`;
  let worker = db.workers.get(name);
  if (!worker) {
    worker = { id: db.workers.size + 1, namespaceId: r.namespaceId, name: r.name, sessionId: '0', capabilities: {} };
    db.workers.set(name, worker);
  }
  const known = lifeOf(db, worker, r.instanceId);
  if (known) {
    if (db.omits('late registration')) worker.sessionId = known.state === 'closed' ? r.sessionId : known.id;
    return worker;
  }
  db.sessions.set(r.sessionId, {
    id: r.sessionId,
    namespaceId: r.namespaceId,
    workerId: worker.id,
    instanceId: r.instanceId,
    state: 'active',
    shutdown: false,
    heldBack: isHeldBack(db, worker.id),
    reason: null,
    expiresAtMs: now + r.leaseTtlMs,
    renewedAtMs: now,
    registeredAtMs: now,
    beat: 0n,
    recall: 0,
    leases: new Set(),
  });
  worker.sessionId = r.sessionId;
  worker.capabilities = r.capabilities;
  replaceSessions(db, worker);
  db.log('workerRegistered', '0', 0, worker.id);
  return worker;
}

const isHeldBack = (db: ModelDatabase, workerId: number) => (db.breakers.get(workerId)?.state ?? 'closed') !== 'closed';

/** Marks the living sessions of a worker as its breaker says. */
export function holdBackAsBreakerSays(db: ModelDatabase, workerId: number): void {
  if (!db.breakers.has(workerId)) return;
  for (const session of db.sessions.values())
    if (session.workerId === workerId && session.state !== 'closed') session.heldBack = isHeldBack(db, workerId);
}

/** Every life of the worker but its newest gets no more work. @returns those that this was news for */
export function replaceSessions(db: ModelDatabase, worker: ModelWorker): ModelSession[] {
  const replaced: ModelSession[] = [];
  if (db.omits('one life')) return replaced;
  for (const session of db.sessions.values())
    if (session.workerId === worker.id && session.id !== worker.sessionId && session.state === 'active') {
      Object.assign(session, { state: 'draining', shutdown: true, reason: REPLACED });
      replaced.push(session);
    }
  return replaced;
}

/** The session of this instance, renewed, as long as it is the worker's newest and its time is not over. */
export function registerAgain(
  db: ModelDatabase,
  worker: ModelWorker,
  r: Registration,
): { sessionId: string; workerId: number } {
  const known = lifeOf(db, worker, r.instanceId);
  const now = db.now();
  const isOver = known?.id !== worker.sessionId || known.state === 'closed' || known.expiresAtMs <= now;
  if (isOver) return { sessionId: '', workerId: worker.id };
  if (!db.omits('register renews')) {
    known.expiresAtMs = Math.max(known.expiresAtMs, now + r.leaseTtlMs);
    known.renewedAtMs = now;
  }
  worker.capabilities = r.capabilities;
  return { sessionId: known.id, workerId: worker.id };
}

function lifeOf(db: ModelDatabase, worker: ModelWorker, instanceId: string): ModelSession | undefined {
  for (const session of db.sessions.values())
    if (session.workerId === worker.id && session.instanceId === instanceId) return session;
  return undefined;
}

export function renewSessions(
  db: ModelDatabase,
  batch: readonly Renewal[],
  outageMs: number = OUTAGE_MS,
): Map<string, Renewed> {
  const now = db.now();
  const renewed = new Map<string, Renewed>();
  for (const { sessionId, leaseTtlMs, number, ageMs = 0 } of batch) {
    const session = db.sessions.get(sessionId);
    if (!session || session.state === 'closed') continue;
    if (session.expiresAtMs <= now && db.sweptAtMs >= now - outageMs && !db.omits('renewal time')) continue;
    session.expiresAtMs = Math.max(session.expiresAtMs, now - ageMs + leaseTtlMs);
    session.renewedAtMs = Math.max(session.renewedAtMs, now - ageMs);
    if (BigInt(number) > session.beat) session.beat = BigInt(number);
    let xor = 0n;
    const cancels: Renewed['cancels'] = [];
    for (const task of session.leases) {
      xor ^= task.bits ^ (BigInt(task.epoch) << 40n);
      const { cancelReason } = task.lease!;
      if (cancelReason !== null) cancels.push({ taskId: task.id, epoch: task.epoch, reason: cancelReason });
    }
    const { recall } = session;
    session.recall = 0;
    renewed.set(sessionId, {
      sessionId,
      state: session.state,
      shutdown: session.shutdown,
      count: session.leases.size,
      xor: BigInt.asIntN(64, xor).toString(),
      cancels,
      recall,
      beat: session.beat.toString(),
      renewedAt: String(session.renewedAtMs),
    });
  }
  return renewed;
}

export function markStarted(db: ModelDatabase, sessionId: string, held: readonly HeldByWorker[]): void {
  const now = db.now();
  for (const { taskId, epoch, started, ranMs } of held) {
    const lease = started ? heldBy(db, { taskId, epoch, sessionId })?.lease : undefined;
    if (lease && lease.startedAtMs === null) lease.startedAtMs = Math.max(lease.grantedAtMs, now - ranMs);
  }
}

/** @param renewedAt as `renewSessions` of the model says it */
export function compareHeld(
  db: ModelDatabase,
  sessionId: string,
  held: readonly HeldByWorker[],
  renewedAt: string,
  unheardAfterMs: number,
): Reconciliation {
  const toldAtMs = db.omits('fresh list') ? db.now() : Number(renewedAt);
  const named = new Set(held.map((h) => `${h.taskId} ${h.epoch}`));
  const isUnheard = (task: ModelTask) =>
    task.lease!.grantedAtMs < toldAtMs - unheardAfterMs && !named.has(`${task.id} ${task.epoch}`);
  return {
    unheard: [...(db.sessions.get(sessionId)?.leases ?? [])]
      .filter(isUnheard)
      .map(({ id, epoch }) => ({ taskId: id, epoch })),
    lost: held
      .filter(({ taskId, epoch }) => !heldBy(db, { taskId, epoch, sessionId }))
      .map(({ taskId, epoch }) => ({ taskId, epoch })),
  };
}

export function closeSession(db: ModelDatabase, sessionId: string, reason: string): boolean {
  const session = db.sessions.get(sessionId);
  if (!session || session.state === 'closed') return false;
  session.state = 'closed';
  session.reason = reason;
  db.log('workerLeft', '0', 0, session.workerId);
  return true;
}

export function drainWorker(
  db: ModelDatabase,
  namespaceId: number,
  name: string,
  reason: string,
): { sessionId: string; leases: number } | null {
  const session = db.sessions.get(db.workers.get(`${namespaceId}\n${name}`)?.sessionId ?? '');
  if (!session || session.state === 'closed') return null;
  session.state = 'draining';
  session.reason = reason;
  return { sessionId: session.id, leases: session.leases.size };
}

/** A worker's own wish: this life of it, whatever others there are by now. */
export function drainSession(db: ModelDatabase, sessionId: string, reason: string): boolean {
  const session = db.sessions.get(sessionId);
  if (session?.state !== 'active') return false;
  session.state = 'draining';
  session.reason = reason;
  return true;
}

export function readSession(db: ModelDatabase, sessionId: string): SessionInfo | null {
  const session = db.sessions.get(sessionId);
  if (!session) return null;
  const worker = [...db.workers.values()].find((w) => w.id === session.workerId)!;
  return {
    namespaceId: session.namespaceId,
    workerId: worker.id,
    workerName: worker.name,
    state: session.state,
    capabilities: worker.capabilities as Record<string, unknown>,
  };
}

/** Closed sessions that hold leases, those of earlier sweeps included. After a gap in the sweeping everybody gets the gap on top. */
export function sweepSessions(db: ModelDatabase, outageMs: number = OUTAGE_MS): (SweptSession & { now: boolean })[] {
  const now = db.now();
  const gapMs = now - db.sweptAtMs;
  const { resumedAtMs } = db;
  db.sweptAtMs = now;
  if (gapMs > outageMs) db.resumedAtMs = now;
  const swept = (session: ModelSession, isNew: boolean) => ({
    sessionId: session.id,
    workerId: session.workerId,
    reason: session.reason,
    now: isNew,
  });
  const left: (SweptSession & { now: boolean })[] = [];
  const closed: (SweptSession & { now: boolean })[] = [];
  for (const session of db.sessions.values()) {
    if (session.state === 'closed') {
      if (session.leases.size > 0 && session.expiresAtMs < now) left.push(swept(session, false));
    } else if (gapMs > outageMs && !db.omits('outage extension')) {
      // Once for each renewal there is a whole lease.
      const ttlMs = session.renewedAtMs >= resumedAtMs ? session.expiresAtMs - session.renewedAtMs : 0;
      session.expiresAtMs = Math.max(session.expiresAtMs + gapMs, now + ttlMs);
    } else if (session.expiresAtMs < now) {
      session.state = 'closed';
      session.reason ??= 'no heartbeat';
      db.log('workerLost', '0', 0, session.workerId);
      closed.push(swept(session, true));
    }
  }
  return [...closed, ...left];
}
