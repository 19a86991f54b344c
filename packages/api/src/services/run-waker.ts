import type { EventHub } from '@baton/engine';

/** What wakes who watches a run. */
export interface RunWaker {
  /** Before the look: what changes from here on is a change. */
  reset(): void;
  /** Until the time is over, whatever changes. */
  rest(ms: number): Promise<void>;
  /** Until something has changed, or may have without being heard of. */
  changed(): Promise<void>;
  stop(): void;
}

const LOOK_AGAIN_MS = 1_000;
/** Where nobody is told. */
const LOOK_MS = 250;

/** @param hub tells of changes; without it (at the edge) it is time alone */
export function createRunWaker(hub: EventHub | null, runId: string, abort: AbortSignal): RunWaker {
  let hasChanged = true;
  let wake: (() => void) | null = null;
  // A lease or a retry of a node's task is a change of the run as people see it.
  const stop = hub?.listen(({ batches }) => {
    if (!batches.some(({ events }) => events.some((event) => event.runId === runId))) return;
    hasChanged = true;
    wake?.();
  });

  const pause = (ms: number, wakes: boolean) =>
    new Promise<void>((resolve) => {
      if (ms <= 0 || abort.aborted) {
        resolve();
        return;
      }
      const done = () => {
        clearTimeout(timer);
        abort.removeEventListener('abort', done);
        wake = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      abort.addEventListener('abort', done, { once: true });
      if (wakes) wake = done;
    });

  return {
    reset() {
      hasChanged = false;
    },
    rest: (ms) => pause(Math.min(LOOK_AGAIN_MS, ms) > 1 ? Math.min(LOOK_AGAIN_MS, ms) : 0, false),
    changed: () => (hasChanged ? Promise.resolve() : pause(hub ? LOOK_AGAIN_MS : LOOK_MS, true)),
    stop: () => stop?.(),
  };
}
