import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPools, type Pools, type Sql } from '../database/connection.ts';
import { type MigratedDatabase, migratedDatabase } from '../database/migrated.fixture.ts';
import { type Scene, scene } from '../database/scene.fixture.ts';
import type { Grant } from '../tasks/claim.ts';
import { type Settlement, settleTasks } from '../tasks/settle.ts';
import {
  appendOutputs,
  newestOutputAttempt,
  OUTPUT_ROW_BYTES,
  type OutputRun,
  outputAttempt,
  readOutput,
} from './outputs.ts';

let db: MigratedDatabase;
let sql: Sql;
let stage: Scene;
let pools: Pools;

beforeAll(async () => {
  db = await migratedDatabase();
  sql = db.sql;
  stage = scene(sql);
  pools = openPools(db.url);
});
afterAll(async () => {
  await pools.end();
  await db.drop();
});

const text = (value: string) => new TextEncoder().encode(value);
const run = (grant: Grant, offset: number, ...pieces: string[]): OutputRun => ({
  sessionId: grant.sessionId,
  taskId: grant.taskId,
  epoch: grant.epoch,
  offset,
  pieces: pieces.map(text),
});

async function leased(name: string): Promise<Grant> {
  const lane = await stage.lane(name);
  await stage.submit(lane, 1);
  return (await stage.claim(lane, await stage.session(name), 1))[0]!;
}

const settlement: Omit<Settlement, 'taskId' | 'epoch' | 'sessionId'> = {
  attempt: 'lost',
  next: 'ready',
  delayMs: null,
  budget: 'crash',
  failure: null,
  ranUs: 0,
};

async function all(taskId: string, epoch: number, from = 0): Promise<string> {
  let read = '';
  for (;;) {
    const page = await readOutput(sql, taskId, epoch, from);
    if (page === null) return read;
    read += new TextDecoder().decode(page);
    from += page.byteLength;
  }
}

describe('output of a running task', () => {
  it('is kept without a gap; what comes twice is kept once, whatever its pieces', async () => {
    const grant = await leased('gaps');
    const { taskId } = grant;
    expect(await appendOutputs(sql, [run(grant, 0, 'abc', 'def')])).toEqual([{ endedAt: 0 }]);
    expect(await appendOutputs(sql, [run(grant, 7, 'x')]), 'a gap').toEqual([{ endedAt: 6 }]);
    expect(await all(taskId, 1)).toBe('abcdef');
    expect(await appendOutputs(sql, [run(grant, 0, 'abc', 'def')]), 'again').toEqual([{ endedAt: 6 }]);
    expect(await appendOutputs(sql, [run(grant, 2, 'cde', 'fgh', 'i')]), 'partly again').toEqual([{ endedAt: 6 }]);
    expect(await all(taskId, 1)).toBe('abcdefghi');
    for (const from of [1, 3, 8, 9]) expect(await all(taskId, 1, from)).toBe('abcdefghi'.slice(from));
    expect(await newestOutputAttempt(sql, taskId, null)).toEqual({ attempt: 1, epoch: 1, length: 9 });
  });

  it('is fenced by task, epoch and session: what is not held is not kept', async () => {
    const grant = await leased('fence');
    const other = await stage.session('another');
    expect(await appendOutputs(sql, [{ ...run(grant, 0, 'x'), sessionId: other }])).toEqual([{ endedAt: null }]);
    expect(await appendOutputs(sql, [{ ...run(grant, 0, 'x'), epoch: 2 }])).toEqual([{ endedAt: null }]);
    await stage.complete([grant]);
    expect(await appendOutputs(sql, [run(grant, 0, 'x')])).toEqual([{ endedAt: null }]);
    expect(await readOutput(sql, grant.taskId, 1, 0)).toBeNull();
  });

  it('one batch holds the runs of many tasks, each judged for itself', async () => {
    const grants = await Promise.all(['many a', 'many b', 'many c'].map(leased));
    await stage.complete([grants[1]!]);
    const verdicts = await appendOutputs(sql, [
      run(grants[2]!, 0, 'c'),
      run(grants[1]!, 0, 'b'),
      run(grants[0]!, 5, 'a'),
    ]);
    expect(verdicts).toEqual([{ endedAt: 0 }, { endedAt: null }, { endedAt: 0 }]);
    expect(await all(grants[2]!.taskId, 1)).toBe('c');
    expect(await all(grants[0]!.taskId, 1)).toBe('');
  });

  it('calls at once, cut in different places, neither lose nor double a byte', async () => {
    const grant = await leased('race');
    const whole = Array.from({ length: 600 }, (_, i) => String.fromCharCode(97 + (i % 26))).join('');
    const send = async (step: number) => {
      for (let at = 0; at < whole.length; ) {
        const piece = whole.slice(at, at + step);
        try {
          const [verdict] = await appendOutputs(pools.api, [run(grant, at, piece.slice(0, 3), piece.slice(3))]);
          expect(verdict!.endedAt).toBeGreaterThanOrEqual(at);
          at += piece.length;
        } catch (error) {
          expect((error as { code: string }).code).toBe('23505');
        }
      }
    };
    await Promise.all([7, 11, 20, 33].map(send));
    expect(await all(grant.taskId, 1)).toBe(whole);
    const [row] = await sql.unsafe(
      'select sum(length(data))::integer as bytes from baton.task_outputs where task_id = $1',
      [grant.taskId],
    );
    expect(row!.bytes).toBe(whole.length);
  });

  it('is read in pages of bounded size, from any byte', async () => {
    const grant = await leased('pages');
    const piece = new Uint8Array(OUTPUT_ROW_BYTES).fill(1);
    await appendOutputs(sql, [
      { ...run(grant, 0), pieces: [piece, piece, piece.subarray(0, 5), piece.subarray(0, 9)] },
    ]);
    const size = 2 * OUTPUT_ROW_BYTES + 14;
    let from = 3;
    while (from < size) {
      const page = await readOutput(sql, grant.taskId, 1, from);
      expect(page!.byteLength).toBeLessThanOrEqual(2 * OUTPUT_ROW_BYTES);
      from += page!.byteLength;
    }
    expect(from).toBe(size);
  });

  it('counts for the newest attempt that sent some or ended; one that was handed back unused never was', async () => {
    const lane = await stage.lane('attempts');
    const session = await stage.session('attempts');
    const [taskId] = await stage.submit(lane, 1);
    const next = async () => (await stage.claim(lane, session, 1))[0]!;
    const end = (grant: Grant, change: Partial<Settlement>) =>
      settleTasks(sql, [{ ...settlement, taskId: taskId!, epoch: grant.epoch, sessionId: session, ...change }]);
    const newest = () => newestOutputAttempt(sql, taskId!, null);

    const first = await next();
    expect(await newest()).toBeNull();
    await appendOutputs(sql, [run(first, 0, 'one')]);
    await end(first, {});
    const second = await next();
    expect(await newest(), 'granted, and not a byte yet').toEqual({ attempt: 1, epoch: 1, length: 3 });
    await end(second, { attempt: 'returned', budget: 'none' });
    expect(await newest()).toEqual({ attempt: 1, epoch: 1, length: 3 });
    const third = await next();
    await appendOutputs(sql, [run(third, 0, 'three')]);
    await end(third, { attempt: 'returned', budget: 'none' });
    const fourth = await next();
    expect([third.attempt, fourth.attempt], 'the same number').toEqual([2, 2]);
    await appendOutputs(sql, [run(fourth, 0, 'f')]);
    expect(await newest()).toEqual({ attempt: 2, epoch: 4, length: 1 });
    expect(await newestOutputAttempt(sql, taskId!, 1)).toEqual({ attempt: 1, epoch: 1, length: 3 });
    expect(await outputAttempt(sql, taskId!, 3)).toEqual({ attempt: 2, epoch: 3, length: 5 });
    await end(fourth, {});
    await stage.complete([await next()]);
    expect(await newest(), 'the last attempt sent nothing').toEqual({ attempt: 3, epoch: 5, length: 0 });
  });
});
