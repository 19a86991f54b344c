import { describe, expect, it } from 'vitest';
import {
  afterProbe,
  BREAKER_TRANSITIONS,
  type BreakerView,
  DEFAULT_BREAKER,
  opens,
  type ProbeResult,
} from './breaker.ts';

describe('a circuit breaker', () => {
  it('opens at three failures', () => {
    expect([0, 1, 2, 3, 4].map((n) => opens(n, DEFAULT_BREAKER))).toEqual([false, false, false, true, true]);
  });

  it('closes after two successful probes, and opens at the first machine failure', () => {
    const half: BreakerView = { state: 'half_open', successes: 0 };
    const once = afterProbe(half, 'success', DEFAULT_BREAKER);
    expect(once).toEqual({ state: 'half_open', successes: 1 });
    expect(afterProbe(once, 'neutral', DEFAULT_BREAKER)).toEqual(once);
    expect(afterProbe(once, 'success', DEFAULT_BREAKER)).toEqual({ state: 'closed', successes: 0 });
    expect(afterProbe(once, 'machine_failure', DEFAULT_BREAKER)).toEqual({ state: 'open', successes: 0 });
  });

  it('takes no step that its table does not have', () => {
    for (const state of ['closed', 'open', 'half_open'] as const)
      for (const successes of [0, 1])
        for (const result of ['success', 'machine_failure', 'neutral'] as ProbeResult[]) {
          const after = afterProbe({ state, successes }, result, DEFAULT_BREAKER);
          if (after.state !== state) expect(BREAKER_TRANSITIONS[state]).toContain(after.state);
        }
  });
});
