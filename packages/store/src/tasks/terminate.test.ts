import { createIdMaker } from '@baton/domain';
import { describe, expect, it } from 'vitest';
import { openPools, type Sql } from '../database/connection.ts';
import { migratedDatabase } from '../database/migrated.fixture.ts';
import { scene } from '../database/scene.fixture.ts';
import { observeTasks } from '../testing/index.ts';
import { claimTasks, type Grant } from './claim.ts';
import { completeTasks } from './complete.ts';
import type { NewTask } from './new-task.ts';
import { submitTasks } from './submit.ts';

const BACKENDS_TO_END = 60;

describe('with backends terminated at random under load', () => {
  it('every acknowledged task is accounted for, nothing is half done, and the pools recover alone', async () => {
    await using db = await migratedDatabase();
    const stage = scene(db.sql);
    const lane = await stage.lane('load');
    const session = await stage.session('load');
    const pools = openPools(db.url, { hot: 4 });
    const ids = createIdMaker(8, Date.now);
    const acknowledged = {
      submitted: new Set<string>(),
      granted: new Map<string, Grant>(),
      completed: new Set<string>(),
    };
    const invoked = new Set<string>();
    const failures: string[] = [];
    let terminated = 0;
    let stop = false;

    /** The answer, or undefined when the connection was lost and nobody knows. */
    const attempt = async <T>(act: () => Promise<T>): Promise<T | undefined> => {
      try {
        return await act();
      } catch (error) {
        failures.push((error as { code?: string }).code ?? String(error));
        return undefined;
      }
    };
    const submit = async () => {
      while (!stop) {
        const batch = Array.from({ length: 5 }, (): NewTask => ({ ...stage.task(lane), id: ids.next() }));
        for (const task of batch) invoked.add(task.id);
        // As a master does it: the ids exist, so the batch is sent until it is answered.
        let stored: Set<string> | undefined;
        while (!stored) stored = await attempt(() => submitTasks(pools.hot, batch));
        for (const task of batch) acknowledged.submitted.add(task.id);
      }
    };
    const work = async () => {
      while (!stop) {
        const grants =
          (await attempt(() => claimTasks(pools.hot, [lane.id], [{ sessionId: session, count: 5 }]))) ?? [];
        for (const grant of grants) acknowledged.granted.set(grant.taskId, grant);
        const batch = grants.map((g) => ({ ...g, output: Uint8Array.of(0x31), encoding: 1 as const, ranUs: 1 }));
        const ended = await attempt(() => completeTasks(pools.hot, batch));
        for (const { taskId } of ended ?? []) acknowledged.completed.add(taskId);
      }
    };
    const terminate = async () => {
      while (terminated < BACKENDS_TO_END) {
        const [row] = await db.sql.unsafe(
          `select pg_terminate_backend(pid) as done from pg_stat_activity
           where datname = current_database() and application_name = 'baton hot' and state = 'active' order by random() limit 1`,
        );
        if (row?.done) terminated++;
        // Progress between two deaths, or the load would only ever reconnect.
        const target = acknowledged.completed.size + 10;
        while (acknowledged.completed.size < target) await tick(db.sql);
      }
      stop = true;
    };
    await Promise.all([submit(), submit(), work(), work(), terminate()]);
    await pools.end();

    expect(terminated).toBe(BACKENDS_TO_END);
    expect(failures.length).toBeGreaterThan(0);
    for (const code of failures)
      expect([
        '57P01',
        'CONNECTION_CLOSED',
        'CONNECTION_DESTROYED',
        'CONNECTION_ENDED',
        'ECONNRESET',
        'EPIPE',
      ]).toContain(code);

    // Each task is in one place (observeTasks refuses others); what was acknowledged is there, what is there was asked for.
    const tasks = await observeTasks(db.sql);
    expect([...acknowledged.submitted].filter((id) => !tasks.has(id))).toEqual([]);
    expect([...tasks.keys()].filter((id) => !invoked.has(id))).toEqual([]);
    for (const id of acknowledged.completed) expect(tasks.get(id)!.state).toBe('succeeded');
    for (const [id] of acknowledged.granted) expect(['leased', 'succeeded']).toContain(tasks.get(id)!.state);
    // Nothing is half done: rows of one statement are there together or not at all.
    for (const task of tasks.values())
      expect(task.history).toEqual(task.state === 'succeeded' ? ['1:1:succeeded'] : []);
    const events = await db.sql.unsafe(
      `select k as id, array_to_json(array_agg(t order by e.xid, e.id)) as types from baton.events e, unnest(e.task_ids, e.types) u(k, t) where k <> 0 group by k`,
    );
    const expected = { ready: [1], leased: [1, 3], succeeded: [1, 3, 5] } as Record<string, number[]>;
    expect(events).toHaveLength(tasks.size);
    for (const { id, types } of events) expect(types).toEqual(expected[tasks.get(id as string)!.state]);
    expect(acknowledged.completed.size).toBeGreaterThan(BACKENDS_TO_END * 5);
  });
});

/** A turn of the database: a moment that passes without a timer. */
const tick = (sql: Sql) => sql.unsafe('select 1');
