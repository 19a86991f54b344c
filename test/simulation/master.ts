import { compareIds, decideLost, decideRetry, type Failure } from '@baton/domain';
import { createQuietSessions, type QuietSessions } from '@baton/engine';
import type { Grant, HeldAttempt, NewTask, Settlement, Success } from '@baton/store';
import { model } from '@baton/store/testing';
import { type Assignment, Dispatch } from './dispatch.ts';
import { Failed, type Machine, type Settled, type Steps, until, type Wait } from './kernel.ts';
import type { Call } from './network.ts';
import { CONNECTION_LOST } from './postgres.ts';
import {
  type ExchangeInput,
  type HeartbeatInput,
  type HeartbeatOutput,
  type MasterApi,
  type Orders,
  OVERDUE,
  type Report,
  type Request,
  SAID,
  SESSION_LOST,
} from './protocol.ts';
import { RETRY, SETTINGS } from './settings.ts';
import { idMaker, type World } from './world.ts';

interface Submitting {
  task: NewTask;
  answer(end: Settled<{ taskId: string; deduplicated: boolean }>): void;
}

const MAX_TRIES = 6;

/**
 * A master: what the engine does, step by step, on the model of the store. What it has in memory (offers, what could not be
 * delivered, orders) dies with its machine.
 */
export class Master implements MasterApi {
  readonly place: string;
  readonly machine: Machine;
  readonly #world: World;
  readonly #ids: { next(): string };
  readonly #dispatch: Dispatch;
  /** Sessions it knows, with the lanes that they can do. */
  readonly #abilities = new Map<string, number[]>();
  readonly #pending = new Map<string, Orders>();
  readonly #news = new Map<string, () => void>();
  #submitting: Submitting[] = [];
  readonly #quiet: QuietSessions;
  #writesQuiet = false;

  constructor(world: World, place: string, machine: Machine, skewMs: number) {
    this.#world = world;
    this.place = place;
    this.machine = machine;
    this.#ids = idMaker(world, skewMs);
    this.#dispatch = new Dispatch(
      machine,
      (laneIds, wants) => this.persist((db) => this.#world.recorder.claim(db, laneIds, wants)),
      world.lanes.map((lane) => lane.id),
      world.defects.has('kept for ever') ? Number.POSITIVE_INFINITY : SETTINGS.heartbeatIntervalMs,
      (unsent) => machine.start(this.#settle(unsent.map((lease) => returned(lease))), () => {}),
    );
    const { kernel } = machine;
    this.#quiet = createQuietSessions(SETTINGS.leaseTtlMs, () => {
      const beganMs = kernel.nowMs;
      return () => kernel.nowMs - beganMs;
    });
    machine.after(world.random.next() * SETTINGS.sweepIntervalMs, () => machine.start(this.#sweepForEver()));
  }

  /** A repeatable statement, again after a lost connection. */
  *persist<T>(statement: (db: model.ModelDatabase) => T): Steps<T> {
    const { random, postgres } = this.#world;
    for (let tries = 1; ; tries++) {
      const end: Settled<T> = yield* until(postgres.execute(this.place, statement));
      if (end.ok) return end.value;
      if (tries >= MAX_TRIES) throw new Failed(CONNECTION_LOST);
      yield* until(this.machine.sleep(random.next() * 50 * 2 ** tries));
    }
  }

  // workers --------------------------------------------------------------------------------------------------------------

  *register(name: string, instanceId: string, laneIds: number[]): Steps<{ sessionId: string }> {
    const registration = {
      sessionId: this.#ids.next(),
      namespaceId: 1,
      name,
      instanceId,
      capabilities: { laneIds },
      serviceUrl: '',
      version: '',
      metadata: {},
      leaseTtlMs: SETTINGS.leaseTtlMs,
    };
    const worker = yield* this.persist((db) => model.openSession(db, registration));
    yield* this.persist((db) => this.#world.recorder.replace(db, worker));
    const given = yield* this.persist((db) => model.registerAgain(db, worker, registration));
    if (!given.sessionId) throw new Failed(SESSION_LOST);
    this.#abilities.set(given.sessionId, laneIds);
    return { sessionId: given.sessionId };
  }

  *exchange(input: ExchangeInput, call: Call): Steps<{ refused: Report[]; grants: Grant[]; orders: Orders }> {
    const { sessionId, results, offer } = input;
    const laneIds = yield* this.#abilityOf(sessionId);
    const answered = this.machine.fork(this.#report(sessionId, results));
    const mustAnswer = results.length > 0 || input.waitMs <= 0 || this.#pending.has(sessionId);
    const waitMs = mustAnswer ? 0 : input.waitMs;
    let grants: Assignment[] = [];
    if (offer) grants = yield* until(this.#dispatch.offer(sessionId, laneIds, offer.number, offer.free, waitMs, call));
    else if (waitMs > 0) yield* until(this.#newsFor(sessionId, waitMs));
    const refused = yield* until(answered);
    if (!refused.ok) {
      this.#dispatch.keep(sessionId, grants);
      throw new Failed(refused.reason);
    }
    if (call.aborted && grants.length > 0) {
      this.#dispatch.keep(sessionId, grants);
      grants = [];
    }
    grants = this.#dispatch.fresh(grants);
    return { refused: refused.value, grants, orders: this.#takeOrders(sessionId) };
  }

  *heartbeat(input: HeartbeatInput): Steps<HeartbeatOutput> {
    const { sessionId } = input;
    const quietly = this.#answerQuietly(input);
    if (quietly) return quietly;
    const heardMs = this.machine.kernel.nowMs;
    const renewal = { sessionId, number: String(input.number), leaseTtlMs: SETTINGS.leaseTtlMs, metrics: null };
    const renewed = (yield* this.persist((db) => this.#world.recorder.renew(db, renewal))).get(sessionId);
    this.#quiet.renewed(sessionId, () => this.machine.kernel.nowMs - heardMs, renewed ?? null);
    if (!renewed) {
      this.#abilities.delete(sessionId);
      throw new Failed(SESSION_LOST);
    }
    if (input.draining && renewed.state === 'active') {
      yield* this.persist((db) => model.drainSession(db, sessionId, 'the worker drains'));
      this.#dispatch.release(sessionId);
    }
    if (input.held.length > 0) yield* this.persist((db) => model.markStarted(db, sessionId, input.held));
    const matches = renewed.count === input.count && renewed.xor === BigInt.asIntN(64, input.xor).toString();
    let lost: model.Word[] = [];
    const isNewest = Number(renewed.beat) <= input.number || this.#world.postgres.db.omits('fresh list');
    if (input.heldIsComplete && isNewest) {
      // What was granted longer ago than that was granted before the worker was last heard, and is held by now or never will be.
      const hasty = this.#world.defects.has('late answers') || this.#world.postgres.db.omits('fresh list');
      const afterMs = hasty ? 2 * SETTINGS.heartbeatIntervalMs : SETTINGS.leaseTtlMs + SETTINGS.heartbeatIntervalMs;
      const found = yield* this.persist((db) =>
        model.compareHeld(db, sessionId, input.held, renewed.renewedAt, afterMs),
      );
      if (found.unheard.length > 0)
        this.#trace(
          `finds unheard in list ${input.number} of ${sessionId}: ${found.unheard.map((l) => `${l.taskId}.${l.epoch}`)}`,
        );
      lost = found.lost.map((lease) => ({ ...lease, sessionId }));
      this.#dispatch.discard(sessionId, found.unheard);
      if (!this.#world.defects.has('unheard leases'))
        yield* this.#settle(
          found.unheard.map((lease) =>
            returned(
              { ...lease, sessionId },
              { type: 'NETWORK_ERROR', message: 'the worker never heard of this lease' },
            ),
          ),
        );
    }
    const orders = this.#takeOrders(sessionId);
    for (const cancel of renewed.cancels)
      if (!orders.cancels.some((c) => c.taskId === cancel.taskId && c.epoch === cancel.epoch))
        orders.cancels.push(cancel);
    orders.drain ||= renewed.state === 'draining';
    orders.shutdown ||= renewed.shutdown;
    return { leaseTtlMs: SETTINGS.leaseTtlMs, sendHeld: !matches && !input.heldIsComplete, lost, orders };
  }

  #answerQuietly(input: HeartbeatInput): HeartbeatOutput | null {
    const { sessionId, number, count, held, heldIsComplete, draining } = input;
    if (count > 0 || held.length > 0 || heldIsComplete || draining || !this.#abilities.has(sessionId)) return null;
    const leftMs = this.#quiet.answer({ sessionId, number: BigInt(number), metrics: null });
    if (leftMs === null) return null;
    if (!this.#writesQuiet) {
      this.#writesQuiet = true;
      this.machine.after(SETTINGS.writeBehindMs, () => this.machine.start(this.#writeQuiet(), () => {}));
    }
    const { recorder, postgres, defects } = this.#world;
    const leaseTtlMs = defects.has('whole lease') ? SETTINGS.leaseTtlMs : leftMs;
    recorder.answeredQuietly(postgres.db, sessionId, leaseTtlMs);
    return { leaseTtlMs, sendHeld: false, lost: [], orders: this.#takeOrders(sessionId) };
  }

  *#writeQuiet(): Steps<void> {
    this.#writesQuiet = false;
    const due = this.#quiet.due();
    const writing = yield* until(
      this.machine.fork(
        this.persist((db) => new Map(due.flatMap((renewal) => [...this.#world.recorder.renew(db, renewal)]))),
      ),
    );
    if (!writing.ok) this.#quiet.failed(due);
    else for (const sessionId of this.#quiet.written(due, writing.value)) this.#forget(sessionId);
  }

  #forget(sessionId: string): void {
    this.#dispatch.discard(sessionId);
    this.#abilities.delete(sessionId);
    this.#quiet.forget(sessionId);
    this.#pending.delete(sessionId);
    this.#announce(sessionId);
  }

  *leave(sessionId: string): Steps<void> {
    yield* this.persist((db) => this.#world.recorder.close(db, sessionId));
    this.#forget(sessionId);
    const held = yield* this.persist((db) => model.leasesOf(db, [sessionId], 100_000));
    yield* this.#settle(
      held.map((lease) => (lease.cancelReason !== null ? settleLost(lease, 'the worker left') : returned(lease))),
    );
  }

  *#abilityOf(sessionId: string): Steps<number[]> {
    const known = this.#abilities.get(sessionId);
    if (known) return known;
    const session = yield* this.persist((db) => model.readSession(db, sessionId));
    if (!session || session.state === 'closed') throw new Failed(SESSION_LOST);
    const { laneIds } = session.capabilities as { laneIds: number[] };
    this.#abilities.set(sessionId, laneIds);
    return laneIds;
  }

  #trace(what: string): void {
    const { recorder, postgres } = this.#world;
    recorder.trace?.(postgres.db.now(), `${this.place} ${what}`);
  }

  // results --------------------------------------------------------------------------------------------------------------

  /** @returns those whose lease is not this session's any more */
  *#report(sessionId: string, reports: readonly Report[]): Steps<Report[]> {
    if (reports.length === 0) return [];
    const sorted = [...reports].sort((a, b) => compareIds(a.taskId, b.taskId));
    const others = sorted.filter((r) => r.outcome.type !== 'success');
    const successes = sorted.flatMap(({ outcome, ...r }): Success[] =>
      outcome.type === 'success' ? [{ ...r, sessionId, output: outcome.output, encoding: 1 }] : [],
    );
    const done = new Set<string>();
    if (successes.length > 0)
      for (const { taskId } of yield* this.persist((db) => model.completeTasks(db, successes))) done.add(taskId);
    if (others.length > 0) {
      const words = others.map(({ taskId, epoch }) => ({ taskId, epoch, sessionId }));
      const held = yield* this.persist((db) => model.readHeld(db, words));
      const settlements = others.flatMap((report) => {
        const lease = held.get(report.taskId);
        return lease ? [this.#decide(sessionId, report, lease)] : [];
      });
      for (const taskId of yield* this.#settle(settlements)) done.add(taskId);
    }
    const rest = reports.filter((r) => !done.has(r.taskId));
    if (rest.length === 0) return [];
    const words = rest.map(({ taskId, epoch, outcome }) => ({ taskId, epoch, sessionId, said: SAID[outcome.type] }));
    const before = yield* this.persist((db) => model.alreadyEnded(db, words));
    return rest.filter((r) => this.#world.defects.has('repeated result') || !before.has(r.taskId));
  }

  #decide(sessionId: string, report: Report, lease: HeldAttempt): Settlement {
    const { taskId, epoch, ranUs, outcome } = report;
    const base = { taskId, epoch, sessionId, ranUs, delayMs: null, budget: 'none' as const };
    if (outcome.type === 'cancelled' || lease.cancelReason !== null)
      return { ...base, attempt: 'cancelled', next: 'cancelled', failure: null };
    if (outcome.type !== 'failure') return { ...base, attempt: 'returned', next: 'ready', failure: null };
    const { failure } = outcome;
    const policy = { ...RETRY, ...lease.retry, maxAttempts: lease.maxAttempts };
    const decision = decideRetry(policy, lease, failure, this.#world.random.next());
    const { budget } = decision;
    if (!decision.retry) return { ...base, attempt: 'failed', next: 'failed', budget, failure };
    const lane = this.#world.lanes.find((l) => l.id === lease.laneId)!;
    if (decision.needsMoreMemory && lane.biggerLaneId === null)
      return { ...base, attempt: 'failed', next: 'failed', budget, failure };
    const laneId = decision.needsMoreMemory ? lane.biggerLaneId : null;
    return { ...base, attempt: 'failed', next: 'backoff', budget, failure, delayMs: decision.delayMs, laneId };
  }

  /** @returns the tasks whose lease was held and is ended */
  *#settle(settlements: Settlement[]): Steps<string[]> {
    if (settlements.length === 0) return [];
    const sorted = [...settlements].sort((a, b) => compareIds(a.taskId, b.taskId));
    const settled = yield* this.persist((db) => model.settleTasks(db, sorted));
    for (const s of settled) {
      if (s.next === 'ready') this.#dispatch.arm(s.laneId);
      else if (s.next === 'backoff') this.#dueIn(sorted.find((each) => each.taskId === s.taskId)!.delayMs ?? 0);
    }
    return settled.map((s) => s.taskId);
  }

  // orders ---------------------------------------------------------------------------------------------------------------

  #ordersFor(sessionId: string): Orders {
    let orders = this.#pending.get(sessionId);
    if (!orders) {
      orders = { cancels: [], drain: false, shutdown: false };
      this.#pending.set(sessionId, orders);
    }
    return orders;
  }

  #takeOrders(sessionId: string): Orders {
    const orders = this.#ordersFor(sessionId);
    this.#pending.delete(sessionId);
    return orders;
  }

  #newsFor(sessionId: string, waitMs: number): Wait<void> {
    return (resume) => {
      this.#news.set(sessionId, () => resume());
      this.machine.after(waitMs, () => resume());
    };
  }

  #announce(sessionId: string): void {
    this.#news.get(sessionId)?.();
    this.#dispatch.release(sessionId);
  }

  // clients --------------------------------------------------------------------------------------------------------------

  /** Gathers for a moment: what comes together is stored by one statement. */
  *submit(request: Request): Steps<{ taskId: string; deduplicated: boolean }> {
    const id = this.#ids.next();
    this.#world.acts.set(id, request);
    const task: NewTask = {
      id,
      namespaceId: 1,
      routeId: request.laneId,
      laneId: request.laneId,
      priority: request.priority,
      maxAttempts: request.maxAttempts,
      startToCloseMs: request.startToCloseMs,
      encoding: 1,
      input: new Uint8Array(),
      dueAtMs: request.delayMs === null ? null : this.#world.postgres.db.now() + request.delayMs,
      idempotency:
        request.key === null
          ? null
          : {
              scope: `task:${request.laneId}`,
              key: request.key,
              bodyHash: Uint8Array.of(request.body),
              ttlMs: SETTINGS.idempotencyTtlMs,
            },
      extra: { labels: { mark: request.mark } },
    };
    const end = yield* until<Settled<{ taskId: string; deduplicated: boolean }>>((answer) => {
      if (this.#submitting.push({ task, answer }) === 1)
        this.machine.after(2, () => {
          const batch = this.#submitting;
          this.#submitting = [];
          this.machine.start(this.#store(batch));
        });
    });
    if (!end.ok) throw new Failed(end.reason);
    if (request.delayMs !== null) this.#dueIn(request.delayMs);
    return end.value;
  }

  *#store(batch: Submitting[]): Steps<void> {
    const tasks = batch.map((each) => each.task);
    const waiting = this.#dispatch.reserve(tasks.map(({ dueAtMs, laneId }) => (dueAtMs === null ? laneId : null)));
    const takers = tasks.map((_, n) => waiting?.takers[n] ?? null);
    const claimedMs = this.machine.kernel.nowMs;
    const storing = yield* until(
      this.machine.fork(this.persist((db) => this.#world.recorder.submit(db, tasks, takers))),
    );
    const handed = storing.ok ? storing.value.handed : [];
    waiting?.end(handed.map((grant) => ({ ...grant, claimedMs })));
    if (!storing.ok) {
      for (const each of batch) each.answer(storing);
      return;
    }
    const missing = tasks.filter((task) => !storing.value.stored.has(task.id) && task.idempotency);
    const keys = missing.map((task) => ({ namespaceId: 1, ...task.idempotency! }));
    const looking =
      keys.length === 0
        ? ({ ok: true, value: [] } as const)
        : yield* until(this.machine.fork(this.persist((db) => model.lookUpKeys(db, keys))));
    if (!looking.ok) {
      for (const each of batch) each.answer(looking);
      return;
    }
    for (const { task, answer } of batch) {
      const at = missing.indexOf(task);
      const holder = at < 0 ? undefined : looking.value[at];
      if (at >= 0 && !holder) answer({ ok: false, reason: 'KEY_EXPIRED_MEANWHILE' });
      else if (holder && holder.bodyHash[0] !== task.idempotency!.bodyHash[0])
        answer({ ok: false, reason: 'IDEMPOTENCY_CONFLICT' });
      else {
        const taskId = holder?.id ?? task.id;
        const isReady = taskId === task.id && task.dueAtMs === null && !handed.some((grant) => grant.taskId === taskId);
        if (isReady) this.#dispatch.arm(task.laneId);
        answer({ ok: true, value: { taskId, deduplicated: taskId !== task.id } });
      }
    }
  }

  *cancel(taskId: string, reason: string): Steps<'cancelled' | 'leased'> {
    for (let tries = 0; tries < 20; tries++) {
      const done = (yield* this.persist((db) => model.cancelTasks(db, [taskId], reason))).get(taskId);
      if (done?.now === 'cancelled') return 'cancelled';
      if (done?.now === 'leased') {
        const { sessionId } = done;
        const epoch = yield* this.persist((db) => db.tasks.get(taskId)!.epoch);
        if (sessionId !== null && this.#abilities.has(sessionId)) {
          this.#ordersFor(sessionId).cancels.push({ taskId, epoch, reason });
          this.#announce(sessionId);
        }
        return 'leased';
      }
      const state = yield* this.persist((db) => db.tasks.get(taskId)?.state);
      if (!state) throw new Failed('TASK_NOT_FOUND');
      if (state === 'succeeded' || state === 'failed' || state === 'cancelled') throw new Failed('TASK_ENDED');
    }
    throw new Failed('BUSY');
  }

  *read(taskId: string): Steps<model.ModelTask['state']> {
    const state = yield* this.persist((db) => db.tasks.get(taskId)?.state);
    if (!state) throw new Failed('TASK_NOT_FOUND');
    return state;
  }

  // periodic duties --------------------------------------------------------------------------------------------------------

  *#sweepForEver(): Steps<void> {
    const { random } = this.#world;
    for (let round = 0; ; round++) {
      yield* until(this.machine.fork(this.#sweep(round)));
      yield* until(this.machine.sleep(SETTINGS.sweepIntervalMs * (0.75 + random.next() / 2)));
    }
  }

  *#sweep(round: number): Steps<void> {
    const { postgres, recorder } = this.#world;
    const swept = yield* until(postgres.execute(this.place, (db) => recorder.sweep(db)));
    if (!swept.ok) throw new Failed(swept.reason);
    for (const session of swept.value) {
      if (session.now) this.#forget(session.sessionId);
      for (;;) {
        const leases = yield* this.persist((db) => model.leasesOf(db, [session.sessionId], SETTINGS.batchRows));
        if (leases.length === 0) break;
        const settled = yield* this.#settle(leases.map((lease) => settleLost(lease, 'its session ended')));
        if (settled.length === 0) break;
      }
    }
    yield* this.#promote();
    if (round % 5 === 0) {
      const overdue = yield* this.persist((db) => model.overdueLeases(db, 2 * SETTINGS.heartbeatIntervalMs));
      for (const { sessionId, taskId, epoch, startToCloseMs } of overdue) {
        const failure: Failure = { type: 'TASK_TIMEOUT', message: OVERDUE };
        const report: Report = { taskId, epoch, ranUs: startToCloseMs * 1000, outcome: { type: 'failure', failure } };
        yield* this.#report(sessionId, [report]);
      }
    }
    this.#dispatch.armAll();
  }

  *#promote(): Steps<void> {
    const promoting = yield* until(this.#world.postgres.execute(this.place, (db) => model.promoteDue(db, 1000)));
    if (!promoting.ok) throw new Failed(promoting.reason);
    for (const laneId of promoting.value.laneIds) this.#dispatch.arm(laneId);
  }

  #dueIn(delayMs: number): void {
    this.machine.after(delayMs + 1, () => this.machine.start(this.#promote(), () => {}));
  }
}

/** How a lease goes back at no cost; what `settleReturned` of the engine says. */
function returned(
  { taskId, epoch, sessionId }: Pick<Settlement, 'taskId' | 'epoch' | 'sessionId'>,
  failure: Failure | null = null,
): Settlement {
  return {
    taskId,
    epoch,
    sessionId,
    attempt: 'returned',
    next: 'ready',
    delayMs: null,
    budget: 'none',
    failure,
    ranUs: 0,
  };
}

/** How a lease ends whose worker is gone; what `settleLost` of the engine says. */
function settleLost(lease: HeldAttempt, why: string): Settlement {
  const { taskId, epoch, sessionId } = lease;
  const base = { taskId, epoch, sessionId, ranUs: 0, attempt: 'lost' as const, budget: 'crash' as const };
  const failure: Failure = { type: 'WORKER_CRASH', message: why };
  if (lease.cancelReason !== null) return { ...base, next: 'cancelled', delayMs: null, failure };
  const decision = decideLost(lease);
  if (!decision.retry) return { ...base, next: 'failed', delayMs: null, failure: { ...failure, nonRetryable: true } };
  if (decision.delayMs === 0) return { ...base, next: 'ready', delayMs: null, failure };
  return { ...base, next: 'backoff', delayMs: decision.delayMs, failure };
}
