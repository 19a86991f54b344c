import { createHistogram } from 'node:perf_hooks';

/**
 * How late timers come: twice a second, so that it wakes an idle master hardly ever (Node's own `monitorEventLoopDelay` does 50 times a
 * second at the resolution that it was used with, 3 % of a core).
 */
export interface LoopLag {
  /** 99th percentile since the start, s. */
  p99(): number;
  stop(): void;
}

const EVERY_MS = 500;

export function watchLoopLag(): LoopLag {
  const lag = createHistogram();
  let timer: NodeJS.Timeout;
  const watch = () => {
    const dueAt = performance.now() + EVERY_MS;
    timer = setTimeout(() => {
      lag.record(Math.max(1, Math.round((performance.now() - dueAt) * 1e6)));
      watch();
    }, EVERY_MS);
  };
  watch();
  return {
    p99: () => lag.percentile(99) / 1e9,
    stop: () => clearTimeout(timer),
  };
}
