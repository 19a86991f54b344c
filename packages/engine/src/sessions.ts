import { isStorableText, Refusal, sessionLost } from '@baton/domain';
import {
  closeSession,
  compareHeld,
  drainSession,
  drainWorker,
  type HeldByWorker,
  leasesOf,
  markStarted,
  type Renewal,
  type Renewed,
  readSession,
  registerWorker,
  renewSessions,
} from '@baton/store';
import { type Ability, type Capabilities, checkWorkerTags, toAbility } from './ability.ts';
import type { BreakerBook } from './breaker-book.ts';
import { createCoalescer } from './coalescer.ts';
import { type Assignment, type Dispatcher, isFresh } from './dispatcher.ts';
import type { EngineEnvironment } from './environment.ts';
import type { LaneBook } from './lane-book.ts';
import type { Counters } from './metrics.ts';
import { persist } from './persist.ts';
import { type Outcome, type Results, settleLost, type Verdict } from './results.ts';
import { createSignals } from './signals.ts';

export interface WorkerRegistration {
  name: string;
  instanceId: string;
  capabilities: Capabilities;
  serviceUrl: string;
  version: string;
  metadata: Record<string, string>;
}

export interface CancelOrder {
  taskId: string;
  epoch: number;
  reason: string;
}

/** What a worker is told besides work. */
export interface Orders {
  cancels: CancelOrder[];
  drain: boolean;
  shutdown: boolean;
  /** Leases to hand back that have not been started. */
  recall: number;
  /** Devices that no task may use now. */
  quarantinedDevices: string[];
}

/** A sign of a running task itself. */
export interface TaskSign {
  taskId: string;
  epoch: number;
  /** Since its last sign. */
  silentMs: number;
  /** Longest silence; null: no limit. */
  timeoutMs: number | null;
  fraction: number | null;
  message: string | null;
}

export interface ExchangeInput {
  sessionId: string;
  results: { taskId: string; epoch: number; outcome: Outcome; ranUs: number }[];
  offer: { number: bigint; freeSlots: number } | null;
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
  signs: TaskSign[];
  /** The worker takes no new work, by its own decision. */
  draining: boolean;
  metrics: Record<string, number> | null;
}

export interface HeartbeatOutput {
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
  /** Tells the worker that holds a lease to stop it: at once if it is connected here, else with its next heartbeat. */
  orderCancel(sessionId: string, order: CancelOrder): void;
  forget(sessionId: string): void;
}

export function createSessions(
  env: EngineEnvironment,
  lanes: LaneBook,
  dispatcher: Dispatcher,
  results: Results,
  counters: Counters,
  breakers: BreakerBook,
): Sessions {
  const { pools, settings } = env;
  const abilities = new Map<string, Ability>();
  const pending = new Map<string, Orders>();
  const news = createSignals<string>();

  async function abilityOf(sessionId: string): Promise<Ability> {
    const known = abilities.get(sessionId);
    if (known) return known;
    const session = await persist(() => readSession(pools.lease, sessionId), env.random);
    if (!session || session.state === 'closed') throw sessionLost(sessionId);
    const ability = toAbility({ ...session, capabilities: session.capabilities as Capabilities }, breakers.quarantined);
    abilities.set(sessionId, ability);
    return ability;
  }

  const ordersFor = (sessionId: string): Orders => {
    let orders = pending.get(sessionId);
    if (!orders) {
      orders = noOrders();
      pending.set(sessionId, orders);
    }
    return orders;
  };

  const takeOrders = (sessionId: string): Orders => {
    const orders = pending.get(sessionId) ?? noOrders();
    pending.delete(sessionId);
    return orders;
  };

  const announce = (sessionId: string) => {
    news.raise(sessionId);
    dispatcher.release(sessionId);
  };

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
      const renewed = await persist(() => renewSessions(pools.lease, sorted), env.random);
      return batch.map((r) => renewed.get(r.sessionId) ?? null);
    },
  });

  /** Leases that were granted a while ago and that the worker never heard of cost no attempt. */
  async function handBack(sessionId: string, unheard: { taskId: string; epoch: number }[]): Promise<void> {
    if (unheard.length === 0) return;
    dispatcher.discard(sessionId, unheard);
    const returned = await results.settle(
      unheard.map((lease) => ({
        ...lease,
        sessionId,
        attempt: 'returned',
        next: 'ready',
        delayMs: null,
        budget: 'none',
        failure: { type: 'NETWORK_ERROR', message: 'the worker never heard of this lease' },
        ranUs: 0,
      })),
    );
    env.log.warn('leases taken back that the worker never heard of', { session_id: sessionId, leases: returned });
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
      const { sessionId, workerId } = await persist(
        () =>
          registerWorker(pools.lease, {
            sessionId: env.ids.next(),
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
      const verdicts = Promise.all(input.results.map((result) => results.report({ ...result, sessionId })));
      // Results that cannot be written now end the wait for work: the caller is told, and sends them again.
      verdicts.catch(() => dispatcher.release(sessionId));
      const mustAnswer = input.results.length > 0 || input.waitMs <= 0 || pending.has(sessionId);
      const waitMs = mustAnswer ? 0 : Math.min(input.waitMs, settings.longPollMs);
      let assignments: Assignment[] = [];
      if (input.offer) {
        assignments = await dispatcher.offer(
          { id: sessionId, ability },
          input.offer.number,
          input.offer.freeSlots,
          waitMs,
          abort,
        );
      } else if (waitMs > 0) await news.wait(sessionId, waitMs, abort);
      let answers: Verdict[];
      try {
        answers = await verdicts;
      } catch (error) {
        dispatcher.keep(sessionId, assignments);
        throw error;
      }
      // Results that took long to write may have made what was granted too old to be sent.
      assignments = assignments.filter((assignment) => isFresh(assignment, env));
      // The caller has gone: what was granted waits for its next call.
      if (abort?.aborted && assignments.length > 0) {
        dispatcher.keep(sessionId, assignments);
        assignments = [];
      }
      const refused: ExchangeOutput['refused'] = [];
      answers.forEach((verdict, i) => {
        const result = input.results[i]!;
        if (verdict) refused.push({ taskId: result.taskId, epoch: result.epoch, ...verdict });
      });
      return { refused, assignments, orders: takeOrders(sessionId) };
    },

    async heartbeat(input) {
      counters.add('baton_heartbeats_total');
      const { sessionId } = input;
      const renewed = await renewals.add({
        sessionId,
        leaseTtlMs: settings.leaseTtlMs,
        metrics: input.metrics,
        number: BigInt.asIntN(64, input.number).toString(),
      });
      if (!renewed) {
        abilities.delete(sessionId);
        throw sessionLost(sessionId);
      }
      if (input.draining && renewed.state === 'active') {
        await persist(() => drainSession(pools.lease, sessionId, 'the worker drains'), env.random);
        dispatcher.release(sessionId);
      }
      if (input.held.length > 0) await persist(() => markStarted(pools.lease, sessionId, input.held), env.random);
      const matches = renewed.count === input.count && BigInt.asUintN(64, BigInt(renewed.xor)) === input.xor;
      let lost: { taskId: string; epoch: number }[] = [];
      if (input.heldIsComplete && BigInt(renewed.beat) <= input.number) {
        const found = await persist(
          () => compareHeld(pools.lease, sessionId, input.held, renewed.renewedAt, 2 * settings.heartbeatIntervalMs),
          env.random,
        );
        lost = found.lost;
        await handBack(sessionId, found.unheard);
      }
      const orders = takeOrders(sessionId);
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
      abilities.delete(sessionId);
      pending.delete(sessionId);
      announce(sessionId);
      const held = await persist(() => leasesOf(pools.lease, [sessionId], 100_000), env.random);
      const returned = await results.settle(
        held.map((lease) =>
          lease.cancelReason !== null
            ? settleLost(lease, 'the worker left')
            : { ...lease, attempt: 'returned', next: 'ready', delayMs: null, budget: 'none', failure: null, ranUs: 0 },
        ),
      );
      env.log.info('worker left', { session_id: sessionId, returned, reason });
      return { returned };
    },

    async drain(namespaceId, name, reason) {
      const drained = await drainWorker(pools.api, namespaceId, name, reason);
      if (!drained)
        throw new Refusal('not_found', 'WORKER_NOT_FOUND', `no living worker is named ${JSON.stringify(name)}`);
      ordersFor(drained.sessionId).drain = true;
      announce(drained.sessionId);
      return { leases: drained.leases };
    },

    orderCancel(sessionId, order) {
      // Only for workers that are connected here; the others learn from their heartbeat.
      if (!abilities.has(sessionId)) return;
      ordersFor(sessionId).cancels.push(order);
      announce(sessionId);
    },

    forget(sessionId) {
      dispatcher.discard(sessionId);
      abilities.delete(sessionId);
      pending.delete(sessionId);
      announce(sessionId);
    },
  };
}

function noOrders(): Orders {
  return { cancels: [], drain: false, shutdown: false, recall: 0, quarantinedDevices: [] };
}
