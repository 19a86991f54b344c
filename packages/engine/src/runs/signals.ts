/**
 * In-memory wake-ups of one master. A signal is a hint: whoever waits on one also looks by itself after a while, so that a change
 * that another master made, or a hint that was lost, only costs time.
 */
export interface Signals<K> {
  /** Resolves true at the next `raise` of the key, or false after the time, or when aborted. */
  wait(key: K, timeoutMs: number, abort?: AbortSignal): Promise<boolean>;
  /** The same for the next `raise` of any of these. */
  waitAny(keys: readonly K[], timeoutMs: number, abort?: AbortSignal): Promise<boolean>;
  raise(key: K): void;
  raiseAll(): void;
  waiting(): number;
}

export function createSignals<K>(): Signals<K> {
  const waiters = new Map<K, Set<(raised: boolean) => void>>();
  let total = 0;
  function waitAny(keys: readonly K[], timeoutMs: number, abort?: AbortSignal): Promise<boolean> {
    if (abort?.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      let isDone = false;
      const done = (raised: boolean) => {
        if (isDone) return;
        isDone = true;
        total--;
        for (const key of keys) {
          const set = waiters.get(key);
          if (set?.delete(done) && set.size === 0) waiters.delete(key);
        }
        clearTimeout(timer);
        abort?.removeEventListener('abort', onAbort);
        resolve(raised);
      };
      const onAbort = () => done(false);
      const timer = setTimeout(() => done(false), timeoutMs);
      abort?.addEventListener('abort', onAbort, { once: true });
      for (const key of keys) {
        const set = waiters.get(key);
        if (set) set.add(done);
        else waiters.set(key, new Set([done]));
      }
      total++;
    });
  }

  return {
    wait: (key, timeoutMs, abort) => waitAny([key], timeoutMs, abort),
    waitAny,
    raise(key) {
      const set = waiters.get(key);
      if (set) for (const done of [...set]) done(true);
    },
    raiseAll() {
      for (const set of [...waiters.values()]) for (const done of [...set]) done(true);
    },
    waiting: () => total,
  };
}
