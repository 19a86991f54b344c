import { Refusal } from '@baton/domain';
import type postgres from 'postgres';

type Sql = postgres.Sql;

/** Codes with which a connection ends that had been made. Refused and timed-out connects are not among them: those harm nothing. */
const BROKEN = /^(57P0[123]|CONNECTION_CLOSED|ECONNRESET|EPIPE|ETIMEDOUT)$/;

/** A new connection that answers within this time proves that the server is there and has time, ms. */
const PROBE_MS = 2_000;

/** How long calls that are under way on other connections of a replaced pool may still take, ms. */
const LAST_ANSWERS_MS = 2_000;

export interface RenewingPoolOptions {
  /**
   * A call without an answer for so long, while a new connection gets one at once, means that its connection is dead without saying so
   * (a black hole in the network; the server itself ends statements earlier), ms. A server that answers nobody is waited for: it may
   * be overloaded, and new connections would only add to that. Default: never.
   */
  readonly answerTimeoutMs?: number;
  /**
   * While no call succeeds for `stuckMs` and `calls` are under way, further ones are refused at once: whoever waits behind locked rows
   * or a stuck server is better told than kept. Default: everything waits.
   */
  readonly shed?: { readonly calls: number; readonly stuckMs: number };
  /** Calls were not answered in time: connections that were made at the same time are likely as dead. */
  readonly onSilence?: () => void;
}

/** A pool that can be told to begin anew. */
export interface RenewingPool {
  readonly sql: Sql;
  /** New connections for calls from now on, unless they are new; those under way get 2 s for their answers. */
  renew(): void;
}

interface Generation {
  readonly pool: Sql;
  readonly madeAt: number;
  /** When each call was made that is not answered, the oldest first. */
  readonly outstanding: Set<{ readonly since: number }>;
  replaced: boolean;
}

/** A call of the driver: a promise whose ends can be watched at the moment they happen, before any `then`. */
interface Call {
  resolve(rows: unknown): void;
  reject(error: unknown): void;
}

/**
 * A pool that is replaced by a new one as soon as one of its connections breaks, or leaves a call without an answer for too long.
 *
 * The driver (3.4.9) takes calls for a connection between its socket's `error` and `close` events. Such a call is never sent and
 * never answered, and the connection, once it is made again, waits for that answer forever: with two backends a second ended under
 * load, a pool of four stood still within 5 s. Here nobody can call in that moment: the first rejection replaces the pool, before
 * anyone hears of it. Calls under way on its other connections get their answers, for 2 s.
 *
 * Nor does it ever give up a call whose packets vanish: the kernel does, after 15 minutes. That is what `answerTimeoutMs` is for.
 */
export function renewingPool(make: () => Sql, options: RenewingPoolOptions = {}): RenewingPool {
  const { answerTimeoutMs, shed, onSilence } = options;
  let ended = false;
  let current = generation();
  const living = new Set([current]);
  let succeededAt = performance.now();
  let watching: ReturnType<typeof setTimeout> | undefined;

  function generation(): Generation {
    return { pool: make(), madeAt: performance.now(), outstanding: new Set(), replaced: false };
  }

  function replace(old: Generation): void {
    if (ended || old.replaced) return;
    old.replaced = true;
    current = generation();
    living.add(current);
    unref(setTimeout(() => close(old), LAST_ANSWERS_MS));
  }

  /** Calls that are not answered by then are rejected: CONNECTION_DESTROYED. */
  function close(old: Generation): void {
    if (living.delete(old)) old.pool.end({ timeout: 0 }).catch(() => {});
  }

  /** Looks at the oldest call when its time may be over; nothing runs while nothing is outstanding. */
  function listen(): void {
    if (answerTimeoutMs === undefined || watching !== undefined) return;
    const [oldest] = current.outstanding;
    if (!oldest || ended) return;
    const left = Math.max(100, oldest.since + answerTimeoutMs - performance.now());
    watching = setTimeout(async () => {
      const suspect = current;
      const isSilent = () => {
        const [still] = suspect.outstanding;
        return still !== undefined && performance.now() - still.since >= answerTimeoutMs;
      };
      // Looked at again after the probe: this process itself may have stood still, with answers waiting to be read.
      if (isSilent() && (await answers()) && isSilent() && !ended) {
        replace(suspect);
        onSilence?.();
      }
      watching = undefined;
      listen();
    }, left);
    unref(watching);
  }

  /** Whether a new connection is answered in time. */
  async function answers(): Promise<boolean> {
    const pool = make();
    const over = new Promise<false>((resolve) => unref(setTimeout(resolve, PROBE_MS, false)));
    const answered = pool.unsafe('select 1').then(
      () => true,
      () => false,
    );
    const isThere = await Promise.race([answered, over]);
    pool.end({ timeout: 0 }).catch(() => {});
    return isThere;
  }

  /** Refused before anything was sent. */
  function admit(): void {
    if (!shed || current.outstanding.size < shed.calls) return;
    const [oldest] = current.outstanding;
    const stuckMs = performance.now() - Math.max(succeededAt, oldest!.since);
    if (stuckMs >= shed.stuckMs)
      throw new Refusal(
        'resource_exhausted',
        'OVERLOADED',
        `Postgres has answered none of ${current.outstanding.size} calls for ${Math.round(stuckMs)} ms; try again later`,
        { retryAfterMs: 1_000 },
      );
  }

  function watch<T>(on: Generation, made: T): T {
    if (!(made instanceof Promise)) return made; // a fragment of a statement
    const call = made as unknown as Call;
    const { resolve, reject } = call;
    const entry = { since: performance.now() };
    on.outstanding.add(entry);
    listen();
    // The driver may end a call twice.
    const answered = () => {
      if (on.outstanding.delete(entry) && on.outstanding.size === 0 && on.replaced) close(on);
    };
    call.resolve = (rows) => {
      succeededAt = performance.now();
      resolve(rows);
      answered();
    };
    call.reject = (error) => {
      const code = (error as { code?: unknown } | null)?.code;
      if (typeof code === 'string' && BROKEN.test(code)) replace(on);
      reject(error);
      answered();
    };
    return made;
  }

  const own = {
    unsafe: (...args: Parameters<Sql['unsafe']>) => {
      try {
        admit();
      } catch (refusal) {
        return Promise.reject(refusal);
      }
      return watch(current, current.pool.unsafe(...args));
    },
    end: async (how?: { timeout?: number }) => {
      ended = true;
      clearTimeout(watching);
      await Promise.all([...living].map(({ pool }) => pool.end(how)));
    },
  };
  const sql = new Proxy(current.pool, {
    apply: (_, __, args: [TemplateStringsArray]) => watch(current, current.pool(...args)),
    get: (_, name) => (name in own ? own[name as keyof typeof own] : Reflect.get(current.pool, name)),
  });
  return {
    sql,
    renew() {
      if (performance.now() - current.madeAt > LAST_ANSWERS_MS) replace(current);
    },
  };
}

/** A timer that keeps no process alive, where there are such. */
function unref(timer: unknown): void {
  (timer as { unref?: () => void }).unref?.();
}
