import { expect, test } from 'vitest';
import { fullJitter } from './backoff.ts';

/** Park and Miller's, so that a failure is the same one again. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

test('500 workers that lost one master come back spread over the whole time, and ever more slowly while it is away', () => {
  const backoff = { baseMs: 100, capMs: 5_000 };
  const random = seeded(7);
  for (let failures = 1; failures <= 12; failures++) {
    const boundMs = Math.min(5_000, 100 * 2 ** (failures - 1));
    const delays = Array.from({ length: 500 }, () => fullJitter(failures, backoff, random()));
    expect(Math.max(...delays)).toBeLessThanOrEqual(boundMs);
    // Ten slices of the time: 50 workers in each, give or take; all at once would be 500 in one.
    const slices = Array.from(
      { length: 10 },
      (_, slice) => delays.filter((ms) => ms >= (slice * boundMs) / 10 && ms < ((slice + 1) * boundMs) / 10).length,
    );
    expect(Math.max(...slices)).toBeLessThan(90);
    expect(Math.min(...slices)).toBeGreaterThan(20);
  }
});

test('over a restart of 10 s the master never meets more than a small share of 500 workers in one tenth of a second', () => {
  const random = seeded(11);
  const arrivals = new Map<number, number>();
  for (let worker = 0; worker < 500; worker++) {
    // Tries from when the master goes away to the first one after it is back.
    for (let at = 0, failures = 1; at < 10_000; failures++) {
      at += Math.max(1, fullJitter(failures, { baseMs: 100, capMs: 5_000 }, random()));
      if (at >= 10_000) arrivals.set(Math.floor(at / 100), (arrivals.get(Math.floor(at / 100)) ?? 0) + 1);
    }
  }
  expect([...arrivals.values()].reduce((all, some) => all + some, 0)).toBe(500);
  expect(Math.max(...arrivals.values())).toBeLessThan(50);
  expect(Math.max(...arrivals.keys()) * 100).toBeLessThan(15_100);
});
