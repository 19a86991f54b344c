import { isStorableText, Refusal, sessionLost, storableText } from '@baton/domain';
import {
  closeSession,
  compareHeld,
  drainSession,
  drainWorker,
  type HeldByWorker,
  leasesOf,
  markStarted,
  type NewSign,
  type Renewal,
  type Renewed,
  readSession,
  registerWorker,
  renewSessions,
  type ToldHealth,
  writeSigns,
} from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import { type Ability, type Capabilities, checkWorkerTags, toAbility } from '../dispatch/ability.ts';
import type { BreakerBook } from '../dispatch/breaker-book.ts';
import type { Assignment, Dispatcher } from '../dispatch/dispatcher.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { OfferRoom } from '../dispatch/planned-claims.ts';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { persist } from '../persist.ts';
import { type EngineSettings, outageMs } from '../settings.ts';
import { type Outcome, type Results, settleLost, settleReturned, type Verdict } from '../tasks/results.ts';
import { createHealthBook, type HealthBook } from './health-book.ts';
import { type CancelOrder, createOrderBook, noOrders, type OrderBook, type Orders } from './orders.ts';
import { createQuietSessions, type StopWatch } from './quiet-sessions.ts';
import { createWriteBehind } from './write-behind.ts';

export interface WorkerRegistration {
  name: string;
  instanceId: string;
  capabilities: Capabilities;
  serviceUrl: string;
  version: string;
  metadata: Record<string, string>;
}

export interface ExchangeInput {
  sessionId: string;
  results: { taskId: string; epoch: number; outcome: Outcome; ranUs: number }[];
  offer: { number: bigint; freeSlots: number; room?: OfferRoom | null } | null;
  waitMs: number;
}

export interface ExchangeOutput {
  refused: { taskId: string; epoch: number; reason: string; message: string }[];
  assignments: Assignment[];
  orders: Orders;
}

export interface HeartbeatInput {
  sessionId: string;
  /** Rises with each heartbeat of the session; a later one makes what this one holds out of date. */
  number: bigint;
  count: number;
  /** Exclusive or over (task xor epoch << 40), unsigned. */
  xor: bigint;
  held: HeldByWorker[];
  heldIsComplete: boolean;
  signs: NewSign[];
  /** The worker takes no new work, by its own decision. */
  draining: boolean;
  metrics: Record<string, number> | null;
  /** What the worker tells of its machine; absent: nothing. */
  health?: Omit<ToldHealth, 'sessionId'> | null;
}

export interface HeartbeatOutput {
  /** What the session has left, from when it was heard. */
  leaseTtlMs: number;
  sendHeld: boolean;
  lost: { taskId: string; epoch: number }[];
  orders: Orders;
}

/** The life of workers' sessions, as workers drive it. */
export interface Sessions {
  register(namespace: string, worker: WorkerRegistration): Promise<{ sessionId: string }>;
  exchange(input: ExchangeInput, abort?: AbortSignal): Promise<ExchangeOutput>;
  heartbeat(input: HeartbeatInput): Promise<HeartbeatOutput>;
  leave(sessionId: string, reason: string): Promise<{ returned: number }>;
  drain(namespaceId: number, name: string, reason: string): Promise<{ leases: number }>;
  /** Tells the worker that holds a lease to stop it: at once, or when the master looks at which it is connected, or by its heartbeat. */
  orderCancel(sessionId: string, order: CancelOrder): void;
  forget(sessionId: string): void;
}

/** With what only this master's own duties ask for. */
export interface SessionsHere extends Sessions {
  /** Look for what other masters said to sessions that are connected here. */
  look: OrderBook['look'];
  attend: OrderBook['attend'];
  dropOldHealth: HealthBook['dropOld'];
  /** Nothing is written for them any more. */
  stop(): Promise<void>;
}

/** Rows that one statement renews behind the answers: it locks them for about 20 ms. */
const QUIET_ROWS = 2_500;

/** Heartbeats that were answered from memory are written so much later: well before the next ones. */
function writeBehindMs(settings: Pick<EngineSettings, 'leaseTtlMs' | 'heartbeatIntervalMs'>): number {
  return Math.min(settings.leaseTtlMs / 5, settings.heartbeatIntervalMs * 0.6);
}

/** @param onOrders there is something to say to this session, which may be connected to another master */
export function createSessions(
  env: EngineEnvironment,
  lanes: LaneBook,
  dispatcher: Dispatcher,
  results: Results,
  counters: Counters,
  breakers: BreakerBook,
  onOrders: (sessionId: string) => void,
): SessionsHere {
  const { pools, settings } = env;
  /**
   * A lease is taken back as unheard when it was granted so long before the heartbeat whose list lacks it. A lease time: whoever still
   * counts on its session has heard another heartbeat accepted since the grant, and made this list after that. And a heartbeat's
   * interval: the worker starts what answers calls that it sent so long before the list.
   */
  const unheardAfterMs = settings.leaseTtlMs + settings.heartbeatIntervalMs;
  const abilities = new Map<string, Ability>();
  const watch = stopWatch(env.now);
  const quiet = createQuietSessions(settings.leaseTtlMs, watch);
  const forget = (sessionId: string) => {
    dispatcher.discard(sessionId);
    abilities.delete(sessionId);
    quiet.forget(sessionId);
    health.forget(sessionId);
    book.forget(sessionId);
  };
  const book = createOrderBook(env, dispatcher.release, forget);
  const health = createHealthBook(env);

  async function abilityOf(sessionId: string): Promise<Ability> {
    const known = abilities.get(sessionId);
    if (known) return known;
    const session = await persist(() => readSession(pools.lease, sessionId), env.random);
    if (!session || session.state === 'closed') throw sessionLost(sessionId);
    const ability = toAbility({ ...session, capabilities: session.capabilities as Capabilities }, breakers.quarantined);
    abilities.set(sessionId, ability);
    return ability;
  }

  const renewals = createCoalescer<Renewal, Renewed | null>({
    maxItems: 1000,
    gatherMs: settings.renewGatherMs,
    run: async (batch) => {
      // A worker may repeat itself within a batch; a row can change once in a statement.
      const byId = new Map<string, Renewal>();
      for (const r of batch) {
        const other = byId.get(r.sessionId);
        if (!other || BigInt(other.number) <= BigInt(r.number)) byId.set(r.sessionId, r);
      }
      const sorted = [...byId.values()].sort((a, b) => (a.sessionId < b.sessionId ? -1 : 1));
      const renewed = await persist(() => renewSessions(pools.lease, sorted, outageMs(settings)), env.random);
      return batch.map((r) => renewed.get(r.sessionId) ?? null);
    },
  });

  const behind = createWriteBehind(writeBehindMs(settings), async () => {
    const due = quiet.due();
    for (let i = 0; i < due.length; i += QUIET_ROWS) {
      const batch = due.slice(i, i + QUIET_ROWS);
      try {
        const renewed = await persist(() => renewSessions(pools.lease, batch, outageMs(settings)), env.random);
        for (const sessionId of quiet.written(batch, renewed)) forget(sessionId);
        for (const said of renewed.values()) {
          book.heard(said.sessionId);
          // No heartbeat waits for this answer, and a recall is told once.
          if (said.state !== 'active' || said.shutdown || said.recall > 0 || said.cancels.length > 0) book.hear(said);
        }
      } catch (error) {
        // Their rows have what their workers were told; the next heartbeats ask Postgres themselves.
        quiet.failed(batch);
        env.log.warn('sessions not renewed', { sessions: batch.length, error: String(error) });
      }
    }
  });

  /** Of a worker that holds nothing and has nothing to say, answered by what is known; null: Postgres is to be asked. */
  function answerQuietly(input: HeartbeatInput): HeartbeatOutput | null {
    const { sessionId, health: told } = input;
    const isQuiet =
      input.count === 0 && input.xor === 0n && input.held.length === 0 && !input.heldIsComplete && !input.draining;
    if (!isQuiet || input.signs.length > 0) return null;
    const ability = abilities.get(sessionId);
    if (!ability) return null;
    const number = BigInt.asIntN(64, input.number);
    const leftMs = quiet.answer({ sessionId, number, metrics: input.metrics });
    if (leftMs === null) return null;
    behind.soon();
    if (told) health.note({ sessionId, ...told });
    const orders = book.take(sessionId);
    orders.quarantinedDevices = [...ability.quarantinedDevices];
    return { leaseTtlMs: leftMs, sendHeld: false, lost: [], orders };
  }

  /** Leases that were granted a while ago and that the worker never heard of cost no attempt. */
  async function handBack(sessionId: string, unheard: { taskId: string; epoch: number }[]): Promise<void> {
    if (unheard.length === 0) return;
    dispatcher.discard(sessionId, unheard);
    const returned = await results.settle(
      unheard.map((lease) =>
        settleReturned(
          { ...lease, sessionId },
          { type: 'NETWORK_ERROR', message: 'the worker never heard of this lease' },
        ),
      ),
    );
    env.log.warn('leases taken back that the worker never heard of', { session_id: sessionId, leases: returned });
  }

  async function answer(input: ExchangeInput, ability: Ability, abort?: AbortSignal): Promise<ExchangeOutput> {
    const { sessionId } = input;
    const verdicts = Promise.all(input.results.map((result) => results.report({ ...result, sessionId })));
    // Results that cannot be written now end the wait for work: the caller is told, and sends them again.
    verdicts.catch(() => dispatcher.release(sessionId));
    // A device that a task gives back is free when its end is written: whoever asks with that result means this device too.
    const gaveBack = input.results.filter((result) => dispatcher.hasDevices(result.taskId)).map((r) => r.taskId);
    if (gaveBack.length > 0) {
      await verdicts.catch(() => {});
      dispatcher.ended(gaveBack);
    }
    const mustAnswer = input.results.length > 0 || input.waitMs <= 0 || book.has(sessionId);
    const waitMs = mustAnswer ? 0 : Math.min(input.waitMs, settings.longPollMs);
    let assignments: Assignment[] = [];
    if (input.offer) {
      assignments = await dispatcher.offer(
        { id: sessionId, ability },
        input.offer.number,
        input.offer.freeSlots,
        waitMs,
        abort,
        input.offer.room,
      );
    } else if (waitMs > 0) await book.wait(sessionId, waitMs, abort);
    let answers: Verdict[];
    try {
      answers = await verdicts;
    } catch (error) {
      dispatcher.keep(sessionId, assignments);
      throw error;
    }
    // Results that took long to write may have made what was granted too old to be sent.
    assignments = dispatcher.fresh(assignments);
    // The caller has gone: what was granted waits for its next call.
    if (abort?.aborted && assignments.length > 0) {
      dispatcher.keep(sessionId, assignments);
      assignments = [];
    }
    const refused: ExchangeOutput['refused'] = [];
    answers.forEach((verdict, i) => {
      const result = input.results[i]!;
      if (verdict) refused.push({ taskId: result.taskId, epoch: result.epoch, ...verdict });
      else if (result.outcome.type === 'success' || result.outcome.type === 'failure')
        dispatcher.note(ability.workerId, result.outcome.type === 'success', result.ranUs / 1_000);
    });
    // Nobody hears it: it waits, too.
    return { refused, assignments, orders: abort?.aborted ? noOrders() : book.take(sessionId) };
  }

  return {
    async register(namespace, worker) {
      if (!isStorableText(JSON.stringify(worker.metadata) + worker.name))
        throw new Refusal(
          'invalid_argument',
          'INVALID_REQUEST',
          'name and metadata must not contain NUL or lone surrogates',
        );
      checkWorkerTags(worker.capabilities.tags);
      const namespaceId = await lanes.namespaceId(namespace);
      const sinceMs = watch();
      const newId = env.ids.next();
      const { sessionId, workerId } = await persist(
        () =>
          registerWorker(pools.lease, {
            sessionId: newId,
            namespaceId,
            name: worker.name,
            instanceId: worker.instanceId,
            capabilities: worker.capabilities,
            serviceUrl: worker.serviceUrl,
            version: worker.version,
            metadata: worker.metadata,
            leaseTtlMs: settings.leaseTtlMs,
          }),
        env.random,
      );
      if (!sessionId)
        throw new Refusal(
          'failed_precondition',
          'SESSION_LOST',
          'this instance of the worker is over; register with a new instance_id',
        );
      // Also for what nobody has looked at: the masters that wrote this worker's failures may be gone.
      await persist(() => breakers.examine(workerId), env.random);
      abilities.set(
        sessionId,
        toAbility(
          { namespaceId, workerId, workerName: worker.name, capabilities: worker.capabilities },
          breakers.quarantined,
        ),
      );
      // One that was there before may hold something.
      if (sessionId === newId)
        quiet.renewed(sessionId, sinceMs, { state: 'active', shutdown: false, count: 0, recall: 0, beat: '0' });
      env.log.info('worker registered', {
        worker: worker.name,
        session_id: sessionId,
        slots: worker.capabilities.slots,
      });
      return { sessionId };
    },

    async exchange(input, abort) {
      counters.add('baton_exchanges_total');
      const { sessionId } = input;
      const ability = await abilityOf(sessionId);
      const leave = book.enter(sessionId);
      try {
        return await answer(input, ability, abort);
      } finally {
        leave();
      }
    },

    async heartbeat(input) {
      counters.add('baton_heartbeats_total');
      const quietly = answerQuietly(input);
      if (quietly) return quietly;
      const { sessionId } = input;
      const sinceMs = watch();
      // Before the renewal: whoever sees a session that was renewed sees how its tasks stood then.
      await persist(() => writeSigns(pools.lease, sessionId, input.signs.map(storableSign)), env.random);
      const renewed = await renewals.add({
        sessionId,
        leaseTtlMs: settings.leaseTtlMs,
        metrics: input.metrics,
        number: BigInt.asIntN(64, input.number).toString(),
      });
      quiet.renewed(sessionId, sinceMs, renewed);
      book.heard(sessionId);
      if (!renewed) {
        abilities.delete(sessionId);
        throw sessionLost(sessionId);
      }
      if (input.health) health.note({ sessionId, ...input.health });
      if (input.draining && renewed.state === 'active') {
        quiet.forget(sessionId);
        await persist(() => drainSession(pools.lease, sessionId, 'the worker drains'), env.random);
        dispatcher.release(sessionId);
      }
      if (input.held.length > 0) await persist(() => markStarted(pools.lease, sessionId, input.held), env.random);
      const matches = renewed.count === input.count && BigInt.asUintN(64, BigInt(renewed.xor)) === input.xor;
      let lost: { taskId: string; epoch: number }[] = [];
      if (input.heldIsComplete && BigInt(renewed.beat) <= input.number) {
        const found = await persist(
          () => compareHeld(pools.lease, sessionId, input.held, renewed.renewedAt, unheardAfterMs),
          env.random,
        );
        lost = found.lost;
        await handBack(sessionId, found.unheard);
      }
      const orders = book.take(sessionId);
      orders.recall += renewed.recall;
      for (const cancel of renewed.cancels)
        if (!orders.cancels.some((c) => c.taskId === cancel.taskId && c.epoch === cancel.epoch))
          orders.cancels.push(cancel);
      orders.drain ||= renewed.state === 'draining';
      orders.shutdown ||= renewed.shutdown;
      orders.quarantinedDevices = [...(await abilityOf(sessionId)).quarantinedDevices];
      return { leaseTtlMs: settings.leaseTtlMs, sendHeld: !matches && !input.heldIsComplete, lost, orders };
    },

    async leave(sessionId, reason) {
      await persist(() => closeSession(pools.lease, sessionId, reason), env.random);
      forget(sessionId);
      const held = await persist(() => leasesOf(pools.lease, [sessionId], 100_000), env.random);
      const returned = await results.settle(
        held.map((lease) =>
          lease.cancelReason !== null
            ? // It was asked to stop and leaves: nothing that its machine did wrong.
              { ...settleLost(lease, ''), failure: { type: 'UNKNOWN', message: 'the worker left' } }
            : settleReturned(lease),
        ),
      );
      env.log.info('worker left', { session_id: sessionId, returned, reason });
      return { returned };
    },

    async drain(namespaceId, name, reason) {
      const drained = await drainWorker(pools.api, namespaceId, name, reason);
      if (!drained)
        throw new Refusal('not_found', 'WORKER_NOT_FOUND', `no living worker is named ${JSON.stringify(name)}`);
      quiet.forget(drained.sessionId);
      book.drain(drained.sessionId);
      onOrders(drained.sessionId);
      return { leases: drained.leases };
    },

    orderCancel(sessionId, order) {
      book.cancel(sessionId, order);
      onOrders(sessionId);
    },
    forget,
    look: book.look,
    attend: book.attend,
    dropOldHealth: health.dropOld,
    async stop() {
      await behind.stop();
      await health.stop();
    },
  };
}

/**
 * By whichever clock went further: a machine that slept has a steady clock that did not notice, and a wall clock may be set back.
 * A session counts as older rather than younger than it is.
 */
function stopWatch(now: () => number): StopWatch {
  return () => {
    const steady = performance.now();
    const wall = now();
    return () => Math.max(performance.now() - steady, now() - wall);
  };
}

/** Text columns take neither NUL nor lone surrogates; a task may say anything. */
function storableSign(sign: NewSign): NewSign {
  return sign.message === null ? sign : { ...sign, message: storableText(sign.message) };
}
