import { describe, expect, it } from 'vitest';
import { runCampaign } from './campaign.ts';
import { FAULTS } from './faults.ts';
import { MUTATIONS, type Mutation, simulate } from './simulation.ts';

/** From where on seeds are tried: what only shows where rare things meet takes some hundred from 1 on. */
const START: Partial<Record<Mutation, number>> = {
  'sweep fence': 50,
  'fresh list': 75,
  'register renews': 195,
  'lease from answer': 830,
  'kept for ever': 220,
  'late answers': 505,
};

describe('the simulation', () => {
  it('holds every invariant, and is not idle: every fault, every kind of trouble', { timeout: 120_000 }, async () => {
    const { failed, tasks, seeds, faults, counts } = await runCampaign({ from: 1, seeds: 100 });
    expect(failed).toEqual([]);
    expect(tasks / seeds).toBeGreaterThanOrEqual(200);
    for (const fault of FAULTS) expect(faults[fault], fault).toBeGreaterThan(seeds / 4);
    const often = ['lost', 'duplicated', 'slowed', 'cut', 'replayed', 'lostBefore', 'lostAfter', 'waited', 'refused'];
    for (const name of [...often, 'attempt lost', 'attempt returned', 'operation info', 'result info', 'result fail'])
      expect(counts[name], name).toBeGreaterThan(seeds / 2);
    for (const name of ['outages', 'closed', 'refusedRenewals', 'quietAnswers'])
      expect(counts[name], name).toBeGreaterThan(20);
    expect(counts['operation ok']).toBeGreaterThan(2 * counts['operation info']!);
  });

  it('has at least 200 tasks and 10 faults in each seed', () => {
    for (let seed = 1001; seed <= 1010; seed++) {
      const { tasks, faults, violations } = simulate({ seed });
      expect(violations).toEqual([]);
      expect(tasks).toBeGreaterThanOrEqual(200);
      expect(Object.values(faults).reduce((sum, n) => sum + n, 0)).toBeGreaterThanOrEqual(10);
    }
  });

  it('is the same again for the same seed, message by message', () => {
    const traceOf = (seed: number) => {
      const trace: string[] = [];
      simulate({ seed, trace: (atMs, what) => trace.push(`${atMs} ${what}`) });
      return trace;
    };
    const once = traceOf(77);
    expect(once.length).toBeGreaterThan(500);
    expect(traceOf(77)).toEqual(once);
    expect(traceOf(78)).not.toEqual(once);
  });

  it.each(MUTATIONS)('finds out a system without: %s', { timeout: 120_000 }, (mutation) => {
    const start = START[mutation] ?? 1;
    for (let seed = start; seed < start + 1000; seed++) {
      const { violations } = simulate({ seed, mutation });
      if (violations.length > 0) return;
    }
    expect.unreachable('1 000 seeds hold');
  });
});
