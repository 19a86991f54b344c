import { Refusal } from '@baton/domain';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunStage, runStage } from './runs.fixture.ts';

let stage: RunStage;
beforeAll(async () => {
  stage = await runStage();
});
afterAll(() => stage.drop());

const rows = async () => {
  const [row] = await stage.sql.unsafe(
    `select (select count(*) from baton.workflows)::integer as workflows, (select count(*) from baton.runs)::integer as runs,
            (select count(*) from baton.tasks)::integer as tasks, (select count(*) from baton.advances)::integer as advances`,
  );
  return { ...row };
};

it.each([
  ['no JSON', '{'],
  ['NUL', '{"name": "a\\u0000b", "nodes": {"a": {"task": "t"}}}'],
  ['half a character', '{"name": "\\ud800", "nodes": {"a": {"task": "t"}}}'],
  ['keys twice', '{"name": "x", "nodes": {"a": {"task": "t"}, "a": {"task": "t"}}}'],
  ['a circle', '{"name": "x", "nodes": {"a": {"task": "t", "needs": ["b"]}, "b": {"task": "t", "needs": ["a"]}}}'],
  ['itself', '{"name": "x", "nodes": {"a": {"task": "t", "needs": ["a"]}}}'],
  ['nothing to run', '{"name": "x", "nodes": {}}'],
  ['numbers as ids', '{"name": "x", "nodes": [{"id": 1, "task": "t"}]}'],
  ['depth', `{"name": "x", "nodes": {"a": {"task": "t", "input": ${'['.repeat(5_000)}${']'.repeat(5_000)}}}}`],
  [
    'a later node in a condition',
    '{"name": "x", "nodes": {"a": {"task": "t", "when": "nodes.b.state == \'failed\'"}, "b": {"task": "t", "needs": ["a"]}}}',
  ],
  ['a prototype', '{"__proto__": {"name": "x", "nodes": {"a": {"task": "t"}}}}'],
])('a definition with %s is refused by Apply and by a start, and nothing of it is stored', async (_, text) => {
  const before = await rows();
  const [{ workflows, runs }] = stage.masters as [(typeof stage.masters)[0]];
  expect(await workflows.validate('default', text)).toMatchObject({ ok: false });
  const start = {
    workflow: { definitionJson: text },
    input: null,
    encoding: 1 as const,
    idempotencyKey: 'k',
    labels: null,
  };
  for (const refused of [workflows.apply('default', text), runs.start('default', start)]) {
    const error = await refused.catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Refusal);
    expect(error).toMatchObject({ code: 'invalid_argument', reason: 'INVALID_WORKFLOW' });
    expect((error as Refusal).violations.length).toBeGreaterThan(0);
  }
  expect(await rows()).toEqual(before);
});

it('a definition that changes under running runs leaves them theirs, retries too; new runs have the new one', async () => {
  const one = { name: 'moving', nodes: { a: { task: 'a' }, b: { task: 'b', needs: ['a'], input: { $from: 'a' } } } };
  const two = { name: 'moving', nodes: { a: { task: 'z' }, c: { for_each: [1, 2], task: 'c', needs: ['a'] } } };
  const old = await stage.start(one);
  await stage.settle();
  const [a] = await stage.take();
  expect(a!.kind).toBe('a');
  const { workflow } = await stage.masters[0]!.workflows.apply('default', JSON.stringify(two));
  expect(workflow.version).toBe(2);
  await stage.succeed([{ task: a!, output: 1 }]);
  await stage.settle();
  const [b] = await stage.take();
  expect([b!.kind, b!.value]).toEqual(['b', 1]);
  await stage.fail([b!]);
  await stage.settle();
  expect((await stage.run(old)).state).toBe('failed');
  await stage.masters[0]!.runs.retry(1, old);
  const kinds: string[] = [];
  await stage.carryOut(old, ({ kind }) => {
    kinds.push(kind);
    return kind;
  });
  expect(kinds).toEqual(['b']);
  expect(await stage.run(old)).toMatchObject({ state: 'succeeded', workflow_version: 1, execution: 2 });
  expect(await stage.output(old)).toEqual({ b: 'b' });
  const young = await stage.start(two);
  await stage.carryOut(young, ({ kind }) => kind);
  expect(await stage.run(young)).toMatchObject({ workflow_version: 2 });
  expect(await stage.output(young)).toEqual({ c: ['c', 'c'] });
});
