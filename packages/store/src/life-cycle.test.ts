import { TASK_TRANSITIONS } from '@baton/domain';
import { describe, expect, it } from 'vitest';
import { COMPLETE } from './complete.ts';
import type { Sql } from './connection.ts';
import { migratedDatabase } from './migrated.fixture.ts';
import { driveLifeCycle } from './testing/index.ts';

/** What the statements can do today: nothing blocks a task yet. */
const POSSIBLE = Object.entries(TASK_TRANSITIONS)
  .flatMap(([from, to]) => to.map((state) => `${from}→${state}`))
  .filter((step) => !step.includes('blocked'));

describe('the life of tasks on SQL', () => {
  it.each([1, 2])('follows the model at every step, through every transition (seed %i)', async (seed) => {
    await using db = await migratedDatabase();
    const report = await driveLifeCycle(db.sql, { seed, steps: 400 });
    expect([...report.transitions].sort()).toEqual(POSSIBLE.sort());
    for (const part of ['granted', 'completed', 'settled', 'stale', 'cancelled', 'promoted'] as const)
      expect(report[part], part).toBeGreaterThan(10);
    expect(report.swept).toBeGreaterThan(3);
  });

  it.each([
    ['whose completion does not ask for the epoch', COMPLETE, / and l.epoch = i.epoch/],
    ['whose completion does not ask for the session', COMPLETE, / and l\.session_id[ +0]* = i\.session_id/],
  ])('would not: a store %s is found out', async (_, statement, guard) => {
    await using db = await migratedDatabase();
    const broken = statement.replace(guard, '');
    expect(broken).not.toBe(statement);
    const sql = {
      unsafe: (text: string, ...rest: [never[], never]) => db.sql.unsafe(text === statement ? broken : text, ...rest),
    } as unknown as Sql;
    await expect(driveLifeCycle(sql, { seed: 1, steps: 400 })).rejects.toThrow(/complete: found/);
  });
});
