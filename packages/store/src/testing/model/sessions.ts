import type { HeldByWorker, Reconciliation, Registration, Renewal, Renewed, SessionInfo } from '../../sessions.ts';
import { OUTAGE_MS, type SweptSession } from '../../sweep.ts';
import type { ModelDatabase, ModelSession, ModelTask } from './tables.ts';
import { heldBy } from './tasks.ts';

const REPLACED = 'another life of this worker registered';

export function registerWorker(db: ModelDatabase, r: Registration): { sessionId: string; workerId: number } {
  const now = db.now();
  const name = `${r.namespaceId}\n${r.name}`;
  const earlier = db.workers.get(name);
  const lives = earlier ? livesOf(db, earlier.id) : [];
  const known = lives.find((s) => s.instanceId === r.instanceId);
  if (earlier && known && !db.omits('late registration')) {
    // An instance that is over, or has a successor, changes nothing.
    if (known.state === 'closed' || known.id !== earlier.sessionId) return { sessionId: '', workerId: earlier.id };
  }
  const living = known?.state === 'closed' ? undefined : known;
  const worker = earlier ?? {
    id: db.workers.size + 1,
    namespaceId: r.namespaceId,
    name: r.name,
    sessionId: r.sessionId,
    capabilities: r.capabilities,
  };
  db.workers.set(name, worker);
  worker.sessionId = living?.id ?? r.sessionId;
  worker.capabilities = r.capabilities;
  if (!db.omits('one life'))
    for (const session of lives)
      if (session.id !== worker.sessionId && session.state === 'active')
        Object.assign(session, { state: 'draining', shutdown: true, reason: REPLACED });
  if (known && !living) return { sessionId: '', workerId: worker.id };
  if (!known) {
    db.sessions.set(r.sessionId, {
      id: r.sessionId,
      namespaceId: r.namespaceId,
      workerId: worker.id,
      instanceId: r.instanceId,
      state: 'active',
      shutdown: false,
      heldBack: false,
      reason: null,
      expiresAtMs: now + r.leaseTtlMs,
      renewedAtMs: now,
      beat: 0,
      leases: new Set(),
    });
    db.log('workerRegistered', '0', 0, worker.id);
  }
  return { sessionId: worker.sessionId, workerId: worker.id };
}

function livesOf(db: ModelDatabase, workerId: number): ModelSession[] {
  return [...db.sessions.values()].filter((s) => s.workerId === workerId);
}

export function renewSessions(db: ModelDatabase, batch: readonly Renewal[]): Map<string, Renewed> {
  const now = db.now();
  const renewed = new Map<string, Renewed>();
  for (const { sessionId, leaseTtlMs } of batch) {
    const session = db.sessions.get(sessionId);
    if (!session || session.state === 'closed') continue;
    if (session.expiresAtMs <= now && db.sweptAtMs >= now - OUTAGE_MS && !db.omits('renewal time')) continue;
    session.expiresAtMs = now + leaseTtlMs;
    session.renewedAtMs = now;
    let xor = 0n;
    const cancels: Renewed['cancels'] = [];
    for (const task of session.leases) {
      xor ^= task.bits ^ (BigInt(task.epoch) << 40n);
      const { cancelReason } = task.lease!;
      if (cancelReason !== null) cancels.push({ taskId: task.id, epoch: task.epoch, reason: cancelReason });
    }
    renewed.set(sessionId, {
      sessionId,
      state: session.state,
      shutdown: session.shutdown,
      count: session.leases.size,
      xor: BigInt.asIntN(64, xor).toString(),
      cancels,
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

export function compareHeld(
  db: ModelDatabase,
  sessionId: string,
  held: readonly HeldByWorker[],
  unheardAfterMs: number,
): Reconciliation {
  const now = db.now();
  const named = new Set(held.map((h) => `${h.taskId} ${h.epoch}`));
  const isUnheard = (task: ModelTask) =>
    task.lease!.grantedAtMs < now - unheardAfterMs && !named.has(`${task.id} ${task.epoch}`);
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
export function sweepSessions(db: ModelDatabase): (SweptSession & { now: boolean })[] {
  const now = db.now();
  const gapMs = now - db.sweptAtMs;
  db.sweptAtMs = now;
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
      if (session.leases.size > 0) left.push(swept(session, false));
    } else if (gapMs > OUTAGE_MS && !db.omits('outage extension')) {
      const ttlMs = session.expiresAtMs - session.renewedAtMs;
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
