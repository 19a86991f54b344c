import { TASK_TRANSITIONS } from '@baton/domain';
import { describe, expect, it } from 'vitest';
import type { Sql } from '../database/connection.ts';
import { migratedDatabase } from '../database/migrated.fixture.ts';
import { driveLifeCycle, type LifeCycleReport } from '../testing/index.ts';
import { RENEW } from '../workers/sessions.ts';
import { CANCEL } from './cancel.ts';
import { CLAIM } from './claim.ts';
import { COMPLETE } from './complete.ts';
import { SETTLE } from './settle.ts';
import { SUBMIT_HANDING } from './submit.ts';
import { SUBMIT_ONE_HANDING } from './submit-lone.ts';
import { SWEEP_SESSIONS } from './sweep.ts';
import { PROMOTE } from './waiting.ts';

/** What the statements can do today: nothing blocks a task yet. */
const POSSIBLE = Object.entries(TASK_TRANSITIONS)
  .flatMap(([from, to]) => to.map((state) => `${from}→${state}`))
  .filter((step) => !step.includes('blocked'));

describe('the life of tasks on SQL', { timeout: 120_000 }, () => {
  it.each([2, 3])('follows the model at every step, through every transition (seed %i)', async (seed) => {
    await using db = await migratedDatabase();
    const often = ['granted', 'completed', 'settled', 'stale', 'cancelled', 'promoted'] as const;
    const isEnough = (report: LifeCycleReport) =>
      report.transitions.size >= POSSIBLE.length &&
      often.every((part) => report[part] > 10) &&
      report.swept > 2 &&
      report.handed > 0 &&
      Object.keys(report.steps).length > 25;
    const report = await driveLifeCycle(db.sql, { seed, steps: 400, isEnough });
    expect([...report.transitions].sort()).toEqual(POSSIBLE.sort());
    expect(isEnough(report), JSON.stringify(report)).toBe(true);
  });

  // Each with a seed that finds it within 120 steps: whoever adds a kind of step may look for others.
  it.each([
    [1, 'whose completion does not ask for the epoch', COMPLETE, ' and l.epoch = i.epoch', ''],
    [1, 'whose completion does not ask for the session', COMPLETE, ' and l.session_id + 0 = i.session_id', ''],
    [1, 'whose sweeps and failures do not ask for the epoch', SETTLE, ' and l.epoch = i.epoch', ''],
    [5, 'that forgets a cancel when a lease ends otherwise', SETTLE, 'l.cancel_reason is not null and', 'false and'],
    [2, 'that counts a returned lease as an attempt', SETTLE, 'then d.attempt - 1', 'then d.attempt'],
    [2, 'that grants to workers whose breaker is open', CLAIM, ' and not s.held_back', ''],
    [2, 'that grants to sessions which drain or are closed', CLAIM, "s.state = 'active' and", ''],
    [1, 'that grants to sessions whose time is over', CLAIM, ' and s.expires_at > clock_timestamp()', ''],
    [1, 'that grants with the epoch of the last lease', CLAIM, 'epoch + 1, priority', 'epoch, priority'],
    [3, 'that hands over to workers whose breaker is open', SUBMIT_HANDING, ' and not s.held_back', ''],
    [3, 'that hands over to sessions which drain or are closed', SUBMIT_HANDING, "s.state = 'active'", 'true'],
    [13, 'that hands over from a paused lane', SUBMIT_HANDING, 'and not l.paused', ''],
    [
      1,
      'that hands over before what was ready',
      SUBMIT_HANDING,
      'and not exists (select from baton.ready y where y.lane_id = l.id)',
      '',
    ],
    [
      1,
      'that hands a lone task to sessions which drain or are closed',
      SUBMIT_ONE_HANDING,
      "s.state = 'active'",
      'true',
    ],
    [
      2,
      'that hands a lone task over before what was ready',
      SUBMIT_ONE_HANDING,
      'and not exists (select from baton.ready y where y.lane_id = l.id)',
      '',
    ],
    [1, 'that renews sessions whose time is over', RENEW, 's.expires_at > clock_timestamp()', 'true'],
    [1, 'that closes sessions after an outage', SWEEP_SESSIONS, 'not gap.is_outage and s.state', 's.state'],
    [1, 'that promotes a retry before its time', PROMOTE, 'w.due_at <= (select clock_timestamp())', 'true'],
    [1, 'that says nothing of a cancel', CANCEL, '15::smallint', '0::smallint'],
  ])('would not (seed %i): a store %s is found out', async (seed, _, statement, guard, instead) => {
    await using db = await migratedDatabase({ max: 1 });
    const broken = statement.replaceAll(guard, instead);
    expect(broken).not.toBe(statement);
    const sql = {
      unsafe: (text: string, ...rest: [never[], never]) => db.sql.unsafe(text === statement ? broken : text, ...rest),
    } as unknown as Sql;
    await expect(driveLifeCycle(sql, { seed, steps: 400 })).rejects.toThrow(
      /^step \d+, .*: (found|task|session|events)/,
    );
  });
});
