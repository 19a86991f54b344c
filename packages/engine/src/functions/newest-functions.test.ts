import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../engine.ts';
import { type RunStage, runStage } from '../runs/runs.fixture.ts';

let stage: RunStage;
let one: Engine;
let other: Engine;
beforeAll(async () => {
  stage = await runStage(2);
  [one, other] = stage.masters as [Engine, Engine];
});
afterAll(() => stage.drop());

const register = (at: Engine, id: string, priority: number) =>
  at.functions.register(1, [
    { id, release: '', description: '', queue: '', taskClass: 'cpu_short', tags: [], priority, startToCloseMs: 0 },
  ]);
const start = (at: Engine, name: string, more: { key?: string; version?: number } = {}) =>
  at.runs.start('default', {
    workflow: { name, version: more.version ?? null },
    input: new TextEncoder().encode('1'),
    encoding: 1,
    idempotencyKey: more.key ?? null,
    labels: null,
  });
const about = async (runId: string) => {
  const [row] = await stage.sql.unsafe(
    'select u.workflow_version, u.form, t.priority from baton.runs u left join baton.tasks t on t.id = u.driver_task_id where u.id = $1',
    [runId],
  );
  return row;
};

it('starts the newest version, also where another master has stored it since this one looked', async () => {
  await register(one, 'changes', 1);
  for (let time = 0; time < 2; time++)
    expect(await about((await start(one, 'changes')).runId)).toMatchObject({ workflow_version: 1, priority: 1 });
  await register(other, 'changes', 2);
  const together = await Promise.all(Array.from({ length: 5 }, () => start(one, 'changes')));
  for (const { runId } of together) expect(await about(runId)).toMatchObject({ workflow_version: 2, priority: 2 });
  expect(await about((await start(one, 'changes', { version: 1 })).runId)).toMatchObject({ workflow_version: 1 });
});

it('finds the run of a key whatever version there is by now', async () => {
  await register(one, 'keyed', 1);
  await start(one, 'keyed');
  const first = await start(one, 'keyed', { key: 'k' });
  expect(first.deduplicated).toBe(false);
  await register(other, 'keyed', 2);
  expect(await start(one, 'keyed', { key: 'k' })).toEqual({ runId: first.runId, deduplicated: true });
  const second = await start(one, 'keyed', { key: 'l' });
  expect(second.deduplicated).toBe(false);
  expect(await about(second.runId)).toMatchObject({ workflow_version: 2 });
  const [count] = await stage.sql.unsafe(
    `select count(*)::integer as runs from baton.runs where workflow_name = 'keyed'`,
  );
  expect(count!.runs).toBe(3);
});

it('starts a graph that took the name of a function', async () => {
  await register(one, 'graph', 1);
  expect(await about((await start(one, 'graph')).runId)).toMatchObject({ form: 'function' });
  await other.workflows.apply('default', JSON.stringify({ name: 'graph', nodes: { a: { task: 'a' } } }));
  for (let time = 0; time < 2; time++)
    expect(await about((await start(one, 'graph')).runId)).toMatchObject({ form: 'graph', workflow_version: 2 });
});
