import { Refusal } from '@baton/domain';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunStage, runStage } from './runs.fixture.ts';

let stage: RunStage;
beforeAll(async () => {
  stage = await runStage();
});
afterAll(() => stage.drop());

const file = (name: string, nodes: object) => JSON.stringify({ name, nodes });
const apply = (name: string, nodes: object) => stage.masters[0]!.workflows.apply('default', file(name, nodes));
const refusal = async (promise: Promise<unknown>) => {
  const error = await promise.catch((thrown) => thrown);
  expect(error).toBeInstanceOf(Refusal);
  return (error as Refusal).violations;
};
const stored = async (name: string) =>
  (await stage.sql.unsafe('select count(*)::integer as n from baton.workflows where name = $1', [name]))[0]!.n;

it('a workflow that runs itself is refused, nothing stored; a pinned version is another one', async () => {
  expect(await refusal(apply('self', { a: { task: 't' }, again: { needs: ['a'], workflow: 'self' } }))).toEqual([
    {
      field: 'nodes.again.workflow',
      description: expect.stringContaining(
        'WORKFLOW_CYCLE: the workflow would run itself without end: "self" → "self"',
      ),
    },
  ]);
  expect(await stored('self')).toBe(0);
  await apply('self', { a: { task: 't' } });
  await apply('self', { before: { workflow: 'self', version: 1 } });
  expect(await stored('self')).toBe(2);
});

it('through others, too: the way is shown, by Validate and by a start alike', async () => {
  await apply('one', { a: { task: 't' } });
  await apply('two', { b: { workflow: 'one' } });
  await apply('three', { c: { for_each: [1], workflow: 'two' }, d: { workflow: 'two' } });
  const nodes = { x: { workflow: 'three' }, 'y z': { workflow: 'two' }, fine: { workflow: 'absent' } };
  const violations = [
    { field: 'nodes["x"].workflow', description: expect.stringContaining('"one" → "three" → "two" → "one"') },
    { field: 'nodes["y z"].workflow', description: expect.stringContaining('"one" → "two" → "one"') },
  ];
  expect(await refusal(apply('one', nodes))).toEqual(violations);
  expect(await refusal(stage.start({ name: 'one', nodes }))).toEqual(violations);
  expect(await stage.masters[0]!.workflows.validate('default', file('one', nodes))).toMatchObject({
    ok: false,
    problems: [{ code: 'WORKFLOW_CYCLE' }, { code: 'WORKFLOW_CYCLE' }],
  });
  expect(await stored('one')).toBe(1);
  // Pinned to a version that does not lead back.
  await apply('two', { b: { task: 't' } });
  await apply('one', { x: { workflow: 'three' } });
  expect(await stored('one')).toBe(2);
});

it('what escapes the look is bounded when it runs, and says which workflows it went through', async () => {
  await apply('deep', { a: { task: 't' } });
  // As if two masters had stored two halves of a circle at the same moment.
  await apply('other', { b: { workflow: 'deep' } });
  await stage.sql.unsafe(
    `insert into baton.workflows (namespace_id, name, version, hash, description, definition, stored_form)
     select namespace_id, name, 2, 'another', description, definition,
            replace(stored_form, '{"kind":"t","type":"function"}', '{"name":"other","type":"workflow","version":null}')
     from baton.workflows where name = 'deep'`,
  );
  const { runId } = await stage.masters[0]!.runs.start('default', {
    workflow: { name: 'deep', version: null },
    input: null,
    encoding: 1,
    idempotencyKey: null,
    labels: null,
  });
  await stage.carryOut(runId, () => null);
  expect((await stage.run(runId)).state).toBe('failed');
  const [deepest] = await stage.sql.unsafe(
    `select failure ->> 'message' as message from baton.runs where failure ->> 'message' like '%deep, no deeper%' order by id desc limit 1`,
  );
  expect(deepest!.message).toMatch(/runs within runs go 32 deep, no deeper: … → "(deep|other)" → .* → "(deep|other)"/);
  const [count] = await stage.sql.unsafe(
    `select count(*)::integer as n from baton.runs where workflow_name in ('deep', 'other')`,
  );
  expect(count!.n).toBeLessThan(40);
});
