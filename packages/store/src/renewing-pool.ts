import type postgres from 'postgres';

type Sql = postgres.Sql;

/** Codes with which a connection ends that had been made. Refused and timed-out connects are not among them: those harm nothing. */
const BROKEN = /^(57P0[123]|CONNECTION_CLOSED|ECONNRESET|EPIPE|ETIMEDOUT)$/;

/** How long calls that are under way on other connections of a replaced pool may still take, ms. */
const LAST_ANSWERS_MS = 2_000;

interface Generation {
  readonly pool: Sql;
  outstanding: number;
  replaced: boolean;
}

/** A call of the driver: a promise whose ends can be watched at the moment they happen, before any `then`. */
interface Call {
  resolve(rows: unknown): void;
  reject(error: unknown): void;
}

/**
 * A pool that is replaced by a new one as soon as one of its connections breaks.
 *
 * The driver (3.4.9) takes calls for a connection between its socket's `error` and `close` events. Such a call is never sent and
 * never answered, and the connection, once it is made again, waits for that answer forever: with two backends a second ended under
 * load, a pool of four stood still within 5 s. Here nobody can call in that moment: the first rejection replaces the pool, before
 * anyone hears of it. Calls under way on its other connections get their answers, for 2 s.
 */
export function renewingPool(make: () => Sql): Sql {
  let ended = false;
  let current: Generation = { pool: make(), outstanding: 0, replaced: false };
  const living = new Set([current]);

  function replace(generation: Generation): void {
    if (ended || generation.replaced) return;
    generation.replaced = true;
    current = { pool: make(), outstanding: 0, replaced: false };
    living.add(current);
    const timer = setTimeout(() => close(generation), LAST_ANSWERS_MS);
    (timer as { unref?: () => void }).unref?.();
  }

  /** Calls that are not answered by then are rejected: CONNECTION_DESTROYED. */
  function close(generation: Generation): void {
    if (living.delete(generation)) generation.pool.end({ timeout: 0 }).catch(() => {});
  }

  function watch<T>(generation: Generation, made: T): T {
    if (!(made instanceof Promise)) return made; // a fragment of a statement
    const call = made as unknown as Call;
    const { resolve, reject } = call;
    generation.outstanding++;
    let open = true; // the driver may end a call twice
    const answered = () => {
      if (!open) return;
      open = false;
      if (--generation.outstanding === 0 && generation.replaced) close(generation);
    };
    call.resolve = (rows) => {
      resolve(rows);
      answered();
    };
    call.reject = (error) => {
      const code = (error as { code?: unknown } | null)?.code;
      if (typeof code === 'string' && BROKEN.test(code)) replace(generation);
      reject(error);
      answered();
    };
    return made;
  }

  const own = {
    unsafe: (...args: Parameters<Sql['unsafe']>) => watch(current, current.pool.unsafe(...args)),
    end: async (options?: { timeout?: number }) => {
      ended = true;
      await Promise.all([...living].map(({ pool }) => pool.end(options)));
    },
  };
  return new Proxy(current.pool, {
    apply: (_, __, args: [TemplateStringsArray]) => watch(current, current.pool(...args)),
    get: (_, name) => (name in own ? own[name as keyof typeof own] : Reflect.get(current.pool, name)),
  });
}
