import { describe, expect, it } from 'vitest';
import { DEFAULT_RETRY, decideRetry, retryDelayMs } from './retry.ts';

const failure = { type: 'EVALUATION_ERROR', message: 'no' } as const;

describe('retries', () => {
  it('wait 5, 10 and 20 s, then give up: four attempts in all', () => {
    const seen = [1, 2, 3, 4].map((attempt) => decideRetry(DEFAULT_RETRY, { attempt, crashes: 0 }, failure, 0.5));
    expect(seen).toEqual([
      { retry: true, delayMs: 5000 },
      { retry: true, delayMs: 10000 },
      { retry: true, delayMs: 20000 },
      { retry: false, because: 'exhausted' },
    ]);
  });

  it('do not count attempts that were lost with their worker', () => {
    expect(decideRetry(DEFAULT_RETRY, { attempt: 6, crashes: 3 }, failure, 0)).toEqual({ retry: true, delayMs: 20000 });
    expect(decideRetry(DEFAULT_RETRY, { attempt: 7, crashes: 3 }, failure, 0).retry).toBe(false);
  });

  it('stop at once when the failure says so', () => {
    expect(decideRetry(DEFAULT_RETRY, { attempt: 1, crashes: 0 }, { ...failure, nonRetryable: true }, 0)).toEqual({
      retry: false,
      because: 'non_retryable',
    });
  });

  it('take the delay that the task asked for, within its budget', () => {
    const asked = { ...failure, retryAfterMs: 1234 };
    expect(decideRetry(DEFAULT_RETRY, { attempt: 1, crashes: 0 }, asked, 0)).toEqual({ retry: true, delayMs: 1234 });
    expect(decideRetry(DEFAULT_RETRY, { attempt: 4, crashes: 0 }, asked, 0).retry).toBe(false);
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
