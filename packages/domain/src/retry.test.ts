import { describe, expect, it } from 'vitest';
import type { FailureType } from './failure.ts';
import { DEFAULT_RETRY, decideLost, decideRetry, POISON_CRASHES, retryDelayMs } from './retry.ts';

const failure = { type: 'EVALUATION_ERROR', message: 'no' } as const;
const counts = (
  attempt: number,
  more: { crashes?: number; infra?: number; ooms?: number; forgiven?: number } = {},
) => ({
  attempt,
  crashes: 0,
  infra: 0,
  ooms: 0,
  ...more,
});
const of = (type: FailureType) => ({ type, message: 'no' });

describe('retries', () => {
  it('wait 5, 10 and 20 s, then give up: four attempts in all', () => {
    const seen = [1, 2, 3, 4].map((attempt) => decideRetry(DEFAULT_RETRY, counts(attempt), failure, 0.5));
    const again = (delayMs: number) => ({ retry: true, budget: 'application', delayMs, needsMoreMemory: false });
    expect(seen).toEqual([
      again(5000),
      again(10000),
      again(20000),
      { retry: false, budget: 'application', because: 'exhausted' },
    ]);
  });

  it('do not count attempts that were charged to another budget', () => {
    const before = { crashes: 2, infra: 1, ooms: 1 };
    expect(decideRetry(DEFAULT_RETRY, counts(7, before), failure, 0)).toMatchObject({ retry: true, delayMs: 20000 });
    expect(decideRetry(DEFAULT_RETRY, counts(8, before), failure, 0).retry).toBe(false);
    // Nor those that were, and that progress has made forgotten.
    const forgotten = { infra: 1, ooms: 1, forgiven: 2 };
    expect(decideRetry(DEFAULT_RETRY, counts(7, forgotten), failure, 0)).toMatchObject({ retry: true, delayMs: 20000 });
    expect(decideRetry(DEFAULT_RETRY, counts(8, forgotten), failure, 0).retry).toBe(false);
  });

  it('stop at once when the failure says so, whatever its budget', () => {
    for (const type of ['EVALUATION_ERROR', 'GPU_ERROR', 'OUT_OF_MEMORY', 'WORKER_CRASH'] as const)
      expect(decideRetry(DEFAULT_RETRY, counts(1), { ...of(type), nonRetryable: true }, 0)).toMatchObject({
        retry: false,
        because: 'non_retryable',
      });
  });

  it('take the delay that the task asked for, within its budget', () => {
    const asked = { ...failure, retryAfterMs: 1234 };
    expect(decideRetry(DEFAULT_RETRY, counts(1), asked, 0)).toMatchObject({ retry: true, delayMs: 1234 });
    expect(decideRetry(DEFAULT_RETRY, counts(4), asked, 0).retry).toBe(false);
  });

  it('charge network and device failures to a budget of their own', () => {
    for (const type of ['NETWORK_ERROR', 'GPU_ERROR'] as const) {
      expect(decideRetry(DEFAULT_RETRY, counts(4), of(type), 0)).toMatchObject({
        retry: true,
        budget: 'infra',
        delayMs: 5000,
      });
      expect(decideRetry(DEFAULT_RETRY, counts(4, { infra: 3 }), of(type), 0)).toEqual({
        retry: false,
        budget: 'infra',
        because: 'exhausted',
      });
    }
  });

  it('try once more on a bigger machine when memory was short', () => {
    expect(decideRetry(DEFAULT_RETRY, counts(1), of('OUT_OF_MEMORY'), 0)).toMatchObject({
      retry: true,
      budget: 'memory',
      needsMoreMemory: true,
    });
    expect(decideRetry(DEFAULT_RETRY, counts(2, { ooms: 1 }), of('OUT_OF_MEMORY'), 0)).toMatchObject({
      retry: false,
      because: 'exhausted',
    });
  });

  it('of lost workers come at once the first time, then later and later, and end with poison', () => {
    const delays = [];
    for (let crashes = 0; crashes < POISON_CRASHES - 1; crashes++) {
      const decision = decideLost(counts(crashes + 1, { crashes }));
      delays.push(decision.retry && decision.delayMs);
    }
    expect(delays).toEqual([0, 1000, 2000, 4000]);
    expect(decideLost(counts(5, { crashes: 4 }))).toEqual({ retry: false, budget: 'crash', because: 'poison' });
  });

  it('never wait longer than the maximum, and jitter only shortens', () => {
    const policy = { ...DEFAULT_RETRY, maxDelayMs: 7000, jitter: 0.5 };
    for (let failures = 1; failures < 50; failures++)
      for (const random of [0, 0.3, 0.999]) {
        const delay = retryDelayMs(policy, failures, random);
        expect(delay).toBeLessThanOrEqual(7000);
        expect(delay).toBeGreaterThanOrEqual(2500);
      }
  });
});
