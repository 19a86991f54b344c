import { describe, expect, it } from 'vitest';
import {
  afterProbe,
  BREAKER_TRANSITIONS,
  type BreakerSight,
  type BreakerView,
  DEFAULT_BREAKER,
  nextStep,
  opens,
  type ProbeResult,
  unrelated,
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

  it('counts failures that have no task in common', () => {
    expect(unrelated([])).toBe(0);
    expect(unrelated([['a'], ['b'], ['c']])).toBe(3);
    expect(unrelated([['a'], ['a'], ['b']])).toBe(2);
    // One task kills its worker again and again, and takes others with it.
    expect(unrelated([['bug', 'a', 'b'], ['bug', 'c'], ['d', 'bug'], ['bug']])).toBe(1);
    // One loss of a worker is one failure, however much it held.
    expect(unrelated([['a', 'b', 'c', 'd']])).toBe(1);
    // The large one first would hide both others.
    expect(unrelated([['a', 'b'], ['a'], ['b']])).toBe(2);
  });

  it('moves when it is time, and not before', () => {
    const sight = (change: Partial<BreakerSight>): BreakerSight => ({
      state: 'closed',
      successes: 0,
      forMs: 0,
      failures: 0,
      isSole: false,
      probe: null,
      failedSince: false,
      ...change,
    });
    const next = (change: Partial<BreakerSight>) => nextStep(sight(change), DEFAULT_BREAKER);
    // Where nobody else could take the work, a shut-out is short.
    expect(next({ state: 'open', forMs: 10_000 })).toBeNull();
    expect(next({ state: 'open', forMs: 10_000, isSole: true })).toEqual({ state: 'half_open', successes: 0 });
    expect(next({ state: 'open', forMs: 9_999, isSole: true })).toBeNull();
    expect(next({ failures: 2 })).toBeNull();
    expect(next({ failures: 3 })).toEqual({ state: 'open', successes: 0 });
    expect(next({ state: 'open', forMs: 299_999, failures: 9 })).toBeNull();
    expect(next({ state: 'open', forMs: 300_000 })).toEqual({ state: 'half_open', successes: 0 });
    expect(next({ state: 'half_open', forMs: 1e9, failures: 9 })).toBeNull();
    expect(next({ state: 'half_open', probe: 'neutral', successes: 1 })).toEqual({ state: 'half_open', successes: 1 });
    expect(next({ state: 'half_open', probe: 'success' })).toEqual({ state: 'half_open', successes: 1 });
    expect(next({ state: 'half_open', probe: 'success', successes: 1 })).toEqual({ state: 'closed', successes: 0 });
    expect(next({ state: 'half_open', probe: 'machine_failure' })).toEqual({ state: 'open', successes: 0 });
    expect(next({ state: 'half_open', probe: 'success', failedSince: true })).toEqual({ state: 'open', successes: 0 });
  });
});
