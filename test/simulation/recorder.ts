import type { Grant, NewTask, Renewal, Renewed, SweptSession, Want } from '@baton/store';
import { OUTAGE_MS } from '@baton/store';
import { model } from '@baton/store/testing';
import type { ClientOperation, Effect, Fault, WorkerCall } from '@baton/testkit/history';
import type { Machine } from './kernel.ts';
import { BEGINNING_MS } from './postgres.ts';
import { SETTINGS } from './settings.ts';

/** Something that must not happen, and did. */
export interface Violation {
  /** Number of the invariant in the reference. */
  invariant: number;
  atMs: number;
  what: string;
}

export type Recorded<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Writes down what happens, and judges at once what only shows at its moment: whom a grant goes to, which renewal is taken, whose
 * time is over. Its judgement shares nothing with the guards of the model but the tables.
 */
export class Recorder {
  readonly violations: Violation[] = [];
  readonly operations: Recorded<ClientOperation>[] = [];
  readonly calls: Recorded<WorkerCall>[] = [];
  readonly effects: Recorded<Effect>[] = [];
  /** Of the worker of each effect. */
  readonly machines: Machine[] = [];
  readonly faults: Fault[] = [];
  readonly cancelAcknowledged = new Set<string>();
  /** Times without a sweep that were long enough for an outage. */
  readonly outages: { fromMs: number; toMs: number }[] = [];
  readonly counts = { grants: 0, renewals: 0, refusedRenewals: 0, quietAnswers: 0, sweeps: 0, outages: 0, closed: 0 };
  readonly #epochs = new Map<string, number>();
  /** Until when a session may not be closed for silence, because there was an outage. */
  readonly #protectedUntilMs = new Map<string, number>();
  #resumedAtMs = Number.NEGATIVE_INFINITY;
  #sweptAtMs = BEGINNING_MS;
  /** The newest session of each worker whose registration is complete. */
  readonly #replaced = new Map<number, string>();
  trace: ((atMs: number, what: string) => void) | null = null;

  violate(db: model.ModelDatabase, invariant: number, what: string): void {
    this.trace?.(db.now(), `VIOLATION ${invariant}: ${what}`);
    this.violations.push({ invariant, atMs: db.now(), what });
  }

  claim(db: model.ModelDatabase, laneIds: readonly number[], wants: readonly Want[]): Grant[] {
    const grants = model.claimTasks(db, laneIds, wants);
    this.#granted(db, grants);
    return grants;
  }

  /** Stores tasks, and leases those that sessions wait for. */
  submit(
    db: model.ModelDatabase,
    tasks: readonly NewTask[],
    takers: readonly (string | null)[],
  ): { stored: Set<string>; handed: Grant[] } {
    const { stored, handed } = model.submitHanding(db, tasks, takers);
    const grants = [...handed].map(([taskId, sessionId]): Grant => {
      const { laneId, epoch, attempt, maxAttempts, startToCloseMs } = db.tasks.get(taskId)!;
      const more = { runId: null, encoding: 1 as const, input: new Uint8Array() };
      return { taskId, sessionId, laneId, epoch, attempt, maxAttempts, startToCloseMs, ...more };
    });
    this.#granted(db, grants);
    return { stored, handed: grants };
  }

  #granted(db: model.ModelDatabase, grants: readonly Grant[]): void {
    const now = db.now();
    for (const { taskId, sessionId, epoch, laneId } of grants) {
      this.counts.grants++;
      const task = db.tasks.get(taskId)!;
      const session = db.sessions.get(sessionId)!;
      const name = `grant of ${taskId}, epoch ${epoch}, to session ${sessionId}`;
      this.trace?.(now, name);
      if (epoch <= (this.#epochs.get(taskId) ?? 0)) this.violate(db, 3, `${name}: its epoch does not rise`);
      this.#epochs.set(taskId, epoch);
      if (session.state !== 'active') this.violate(db, 11, `${name}, which is ${session.state}`);
      else if (session.expiresAtMs <= now) this.violate(db, 11, `${name}, whose time is over`);
      else if (sessionId !== (this.#replaced.get(session.workerId) ?? sessionId) && !this.#isNewest(db, session))
        this.violate(db, 11, `${name}, which has a successor`);
      if (db.lanes.get(laneId)!.paused) this.violate(db, 11, `${name}, from a paused lane`);
      if (this.cancelAcknowledged.has(taskId)) this.violate(db, 12, `${name}, after its cancel was acknowledged`);
      if (task.outcomes.length > 0) this.violate(db, 2, `${name}, after its end`);
      const last = task.attempts.at(-1);
      if (last && now - last.endedAtMs < (last.retryDelayMs ?? 0))
        this.violate(db, 9, `${name}, ${now - last.endedAtMs} ms after a failure with a delay of ${last.retryDelayMs}`);
    }
  }

  /** A later or repeated registration of an older life takes nothing from the newest. */
  replace(db: model.ModelDatabase, worker: model.ModelWorker): void {
    const newest = [...db.sessions.values()].filter((s) => s.workerId === worker.id).at(-1)!;
    for (const session of model.replaceSessions(db, worker)) {
      this.trace?.(db.now(), `session ${session.id} of ${worker.name} is replaced`);
      if (session === newest) this.violate(db, 15, `session ${session.id} is replaced, and it is the worker's newest`);
    }
    this.#replaced.set(worker.id, newest.id);
  }

  #isNewest(db: model.ModelDatabase, session: model.ModelSession): boolean {
    return [...db.sessions.values()].filter((s) => s.workerId === session.workerId).at(-1) === session;
  }

  renew(db: model.ModelDatabase, renewal: Renewal): Map<string, Renewed> {
    const { sessionId } = renewal;
    const now = db.now();
    const session = db.sessions.get(sessionId);
    const wasOver = session !== undefined && session.expiresAtMs <= now;
    const swept = now - db.sweptAtMs <= OUTAGE_MS;
    const renewed = model.renewSessions(db, [renewal]);
    if (renewed.size === 0) this.counts.refusedRenewals++;
    else {
      this.counts.renewals++;
      if (session!.state === 'closed') this.violate(db, 5, `renewal of the closed session ${sessionId}`);
      if (wasOver && swept) this.violate(db, 5, `renewal of session ${sessionId}, whose time was over`);
    }
    return renewed;
  }

  /** A heartbeat is answered without a statement. */
  answeredQuietly(db: model.ModelDatabase, sessionId: string, leaseTtlMs: number): void {
    this.counts.quietAnswers++;
    const untilMs = db.now() + leaseTtlMs;
    // Whoever left has nothing to count on any more.
    const session = db.sessions.get(sessionId)!;
    if (session.state !== 'closed' || session.reason !== 'left')
      if (session.state === 'closed' || session.expiresAtMs < untilMs)
        this.violate(db, 4, `session ${sessionId} is told ${leaseTtlMs} ms, which it does not have`);
  }

  close(db: model.ModelDatabase, sessionId: string): boolean {
    this.trace?.(db.now(), `session ${sessionId} leaves`);
    return model.closeSession(db, sessionId, 'left');
  }

  sweep(db: model.ModelDatabase): (SweptSession & { now: boolean })[] {
    const now = db.now();
    this.counts.sweeps++;
    const isOutage = now - this.#sweptAtMs > OUTAGE_MS;
    if (isOutage) {
      this.counts.outages++;
      this.outages.push({ fromMs: this.#sweptAtMs, toMs: now });
      this.trace?.(now, `first sweep after ${Math.round(now - this.#sweptAtMs)} ms`);
      // Whoever was heard since the outage before gets a whole lease.
      for (const session of db.sessions.values())
        if (session.state !== 'closed' && session.renewedAtMs >= this.#resumedAtMs)
          this.#protectedUntilMs.set(session.id, now + SETTINGS.leaseTtlMs);
      this.#resumedAtMs = now;
    }
    this.#sweptAtMs = now;
    const swept = model.sweepSessions(db);
    for (const { sessionId, now: isNew } of swept) {
      if (!isNew) continue;
      this.counts.closed++;
      this.trace?.(now, `session ${sessionId} is swept`);
      const session = db.sessions.get(sessionId)!;
      if (session.expiresAtMs >= now) this.violate(db, 4, `session ${sessionId} is closed before its time is over`);
      const untilMs = this.#protectedUntilMs.get(sessionId) ?? 0;
      if (now < untilMs)
        this.violate(db, 4, `session ${sessionId} is closed ${untilMs - now} ms too soon after an outage`);
    }
    return swept;
  }
}
