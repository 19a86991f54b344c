import { type SessionOrders, takeOrders } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { createSignals } from '../runs/signals.ts';

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

/**
 * What is to be said to the sessions that are connected here. It can all be lost: what was said is in Postgres, where heartbeats and
 * `look` find it, whichever master said it.
 */
export interface OrderBook {
  /** An exchange of this session begins; it ends with the call of the answer. */
  enter(sessionId: string): () => void;
  /** Something is to be said. */
  has(sessionId: string): boolean;
  /** Resolves when there is something to say, or after the time. */
  wait(sessionId: string, timeoutMs: number, abort?: AbortSignal): Promise<boolean>;
  /** What is to be said, once. */
  take(sessionId: string): Orders;
  cancel(sessionId: string, order: CancelOrder): void;
  drain(sessionId: string): void;
  forget(sessionId: string): void;
  /** What Postgres says to a session that may be connected here. */
  hear(said: SessionOrders): void;
  /** This session was heard, and Postgres knows it. */
  heard(sessionId: string): void;
  /** Looks in Postgres for what was said elsewhere to those of these that are connected here. */
  look(sessionIds: readonly string[]): Promise<void>;
  /**
   * As `look`, for those that Postgres has something to say to, and for those that are connected here and have not been heard here for half
   * a lease: another master may have heard them, or ended them.
   */
  attend(ordered: readonly string[]): Promise<void>;
}

/** A session counts as connected for so long after its last exchange: the next one is on its way. */
const LINGER_MS = 5_000;
/** A cancel that was told, and whose task is still there, is told again after so long: the answer may have been lost. */
const TELL_AGAIN_MS = 2_000;

interface Presence {
  exchanges: number;
  lastAt: number;
  /** When its session was renewed here, or began to be connected. */
  heardAt: number;
  /** What was told, and when. */
  told: Map<string, number>;
}

/**
 * @param onOrders a waiting exchange of this session is to be answered
 * @param onGone the session is over, as another master found
 */
export function createOrderBook(
  env: EngineEnvironment,
  onOrders: (sessionId: string) => void,
  onGone: (sessionId: string) => void,
): OrderBook {
  const pending = new Map<string, Orders>();
  const present = new Map<string, Presence>();
  const news = createSignals<string>();

  const ordersFor = (sessionId: string): Orders => {
    let orders = pending.get(sessionId);
    if (!orders) {
      orders = noOrders();
      pending.set(sessionId, orders);
    }
    return orders;
  };

  const announce = (sessionId: string) => {
    news.raise(sessionId);
    onOrders(sessionId);
  };

  const isConnected = (sessionId: string): boolean => {
    const presence = present.get(sessionId);
    return presence !== undefined && (presence.exchanges > 0 || env.now() - presence.lastAt < LINGER_MS);
  };

  /** Whether it is to be told now; remembers that it was. */
  const tells = (sessionId: string, what: string): boolean => {
    const told = present.get(sessionId)?.told;
    const at = told?.get(what);
    if (at !== undefined && env.now() - at < TELL_AGAIN_MS) return false;
    told?.set(what, env.now());
    return true;
  };

  function hear({ sessionId, state, shutdown, recall, cancels }: SessionOrders): void {
    if (state === 'closed') {
      onGone(sessionId);
      return;
    }
    const told = present.get(sessionId)?.told;
    const standing = new Set(cancels.map((cancel) => `${cancel.taskId}.${cancel.epoch}`));
    for (const what of told?.keys() ?? []) if (what.includes('.') && !standing.has(what)) told!.delete(what);
    const orders = noOrders();
    orders.cancels = cancels.filter((cancel) => tells(sessionId, `${cancel.taskId}.${cancel.epoch}`));
    orders.drain = state === 'draining' && tells(sessionId, 'drain');
    orders.shutdown = shutdown && tells(sessionId, 'shutdown');
    if (orders.cancels.length === 0 && !orders.drain && !orders.shutdown && recall === 0) return;
    const all = ordersFor(sessionId);
    all.cancels.push(...orders.cancels);
    all.drain ||= orders.drain;
    all.shutdown ||= orders.shutdown;
    all.recall += recall;
    announce(sessionId);
  }

  async function look(sessionIds: readonly string[]): Promise<void> {
    const here = sessionIds.filter(isConnected);
    if (here.length === 0) return;
    const said = await takeOrders(env.pools.lease, here);
    const known = new Set(said.map((orders) => orders.sessionId));
    for (const orders of said) hear(orders);
    for (const sessionId of here) if (!known.has(sessionId)) onGone(sessionId);
  }

  return {
    enter(sessionId) {
      let presence = present.get(sessionId);
      if (!presence) {
        presence = { exchanges: 0, lastAt: 0, heardAt: env.now(), told: new Map() };
        present.set(sessionId, presence);
      }
      const mine = presence;
      mine.exchanges++;
      return () => {
        mine.exchanges--;
        mine.lastAt = env.now();
      };
    },
    has: (sessionId) => pending.has(sessionId),
    wait: (sessionId, timeoutMs, abort) => news.wait(sessionId, timeoutMs, abort),
    take(sessionId) {
      const orders = pending.get(sessionId) ?? noOrders();
      pending.delete(sessionId);
      return orders;
    },
    cancel(sessionId, order) {
      if (!isConnected(sessionId)) return;
      tells(sessionId, `${order.taskId}.${order.epoch}`);
      ordersFor(sessionId).cancels.push(order);
      announce(sessionId);
    },
    drain(sessionId) {
      if (!isConnected(sessionId)) return;
      tells(sessionId, 'drain');
      ordersFor(sessionId).drain = true;
      announce(sessionId);
    },
    forget(sessionId) {
      pending.delete(sessionId);
      present.delete(sessionId);
      announce(sessionId);
    },
    hear,
    heard(sessionId) {
      const presence = present.get(sessionId);
      if (presence) presence.heardAt = env.now();
    },
    look,
    async attend(ordered) {
      const silentSince = env.now() - env.settings.leaseTtlMs / 2;
      const ids = new Set(ordered);
      for (const [sessionId, { heardAt }] of present)
        if (!isConnected(sessionId)) {
          present.delete(sessionId);
          pending.delete(sessionId);
        } else if (heardAt < silentSince) ids.add(sessionId);
      await look([...ids]);
    },
  };
}

export function noOrders(): Orders {
  return { cancels: [], drain: false, shutdown: false, recall: 0, quarantinedDevices: [] };
}
