import { expect, expectTypeOf, test } from 'vitest';
import type { BlobValue } from '../data/blob-value.ts';
import { task } from '../tasks/task.ts';
import { type GraphNode, graph } from './graph.ts';
import { expr, GraphError, type Reference } from './graph-reference.ts';
import { checkWorkflow, checkWorkflowFile } from './workflow-file.ts';
import { workflow } from './workflow-function.ts';

const list = task({ id: 'list', run: (_: { year: number }) => ({ files: [{ name: 'a', size: 1 }] }) });
const count = task({ id: 'count', retry: { maxAttempts: 2 }, run: (_: { file: string }) => 1 });
const sum = task({ id: 'sum', run: (_: { counts: number[] }) => ({ total: 1 }) });
const start = task({ id: 'start', run: () => 'begun' });
const film = task({ id: 'film', run: (_: { of: string }) => ({}) as BlobValue<{ frames: number[] }> });
const approve = workflow({ id: 'approve', run: async (_ctx, _input: { total: number }) => ({ by: 'Ada' }) });

/** Throws for a file that is not sound. */
function definitionOf(value: unknown) {
  const checked =
    typeof value === 'string' ? checkWorkflowFile(value) : checkWorkflow(JSON.parse(JSON.stringify(value)));
  return checked.ok ? checked.definition : expect.fail(JSON.stringify(checked.problems, null, 2));
}

test('nodes without ids have those of their tasks; a task stands for its node among needs', () => {
  const wf = graph<{ year: number }>({ id: 'short' });
  const begun = wf.node(start);
  const listed = wf.node(list, { needs: [begun], input: ({ input }) => ({ year: input.year }) });
  const counted = wf.forEach(count, {
    needs: [list],
    items: ({ list }) => list.files,
    input: ({ item }) => ({ file: item.name }),
  });
  wf.node(sum, { needs: [counted], input: ({ count }) => ({ counts: count }) });

  expectTypeOf(begun).toEqualTypeOf<GraphNode<'start', string>>();
  expectTypeOf(listed.id).toEqualTypeOf<'list'>();
  expectTypeOf(listed.output.files[0]!.name).toEqualTypeOf<Reference<string>>();
  expectTypeOf(counted).toEqualTypeOf<GraphNode<'count', number[]>>();
  expect(definitionOf(wf.definition)).toEqual(
    definitionOf(`
name: short
nodes:
  start: { task: start }
  list: { needs: [start], task: list, input: { year: { $input: [year] } } }
  count:
    needs: [list]
    for_each: { $from: list, path: [files] }
    task: count
    retry: { max_attempts: 2 }
    input: { file: { $expr: 'item["name"]' } }
  sum: { needs: [count], task: sum, input: { counts: { $from: count } } }
`),
  );
  // @ts-expect-error: what it takes is missing
  expect(() => wf.node(list)).toThrow('two nodes "list"');
  const other = graph({ id: 'other' });
  expect(() => other.node(sum, { needs: [count], input: () => ({ counts: [] }) })).toThrow(
    new GraphError('the node "sum" needs the task "count", which is no node of its own: needs: [wf.node(…)]'),
  );
});

test('the compiler knows what a task among the needs gives', () => {
  const wf = graph<{ year: number }>({ id: 'types' });
  wf.node(start);
  wf.node(list, { input: ({ input }) => ({ year: input.year }) });
  wf.node(sum, {
    needs: [start, list],
    input: ({ start, list }) => {
      expectTypeOf(start).toEqualTypeOf<Reference<string>>();
      expectTypeOf(list.files[0]!.size).toEqualTypeOf<Reference<number>>();
      return { counts: [list.files[0]!.size] };
    },
  });
  // @ts-expect-error: a text is no number
  wf.node('wrong', sum, { needs: [start], input: ({ start }) => ({ counts: [start] }) });
  // @ts-expect-error: "sum" is not among the needs
  expect(() => wf.node('absent', sum, { needs: [list], input: ({ sum }) => ({ counts: [sum.total] }) })).toThrow();
  // @ts-expect-error: an edge to what is not needed
  wf.node('edge', start, { needs: [list], edges: { sum: 'control' } });
});

test('fan-outs over services, programs and workflows; nodes that run functions and graphs', () => {
  const inner = graph<{ n: number }>({ id: 'inner' });
  const half = inner.node('half', count, { input: () => ({ file: 'x' }) });
  const whole = inner.output({ half: half.output });

  const wf = graph<{ names: string[] }>({ id: 'outer' });
  const called = wf.forEach<{ ok: boolean }>(
    'called',
    { grpc: { address: '127.0.0.1:1', method: 'S/M' } },
    { items: ({ input }) => input.names, maxParallel: 3, input: ({ item }) => ({ name: item }) },
  );
  expectTypeOf(called).toEqualTypeOf<GraphNode<string, { ok: boolean }[]>>();
  const approved = wf.forEach('approved', approve, {
    items: () => [1, 2, 3],
    input: ({ item }) => ({ total: item }),
  });
  expectTypeOf(approved).toEqualTypeOf<GraphNode<'approved', { by: string }[]>>();
  const halved = wf.matrix('halved', whole, {
    axes: () => ({ n: [1, 2], of: ['a'] }),
    input: ({ matrix }) => ({ n: matrix.n }),
  });
  expectTypeOf(halved).toEqualTypeOf<GraphNode<'halved', { readonly half: number }[]>>();
  wf.matrix('others', { workflow: 'other', version: 2 }, { axes: () => ({ a: [1] }), input: ({ matrix }) => matrix });
  const one = wf.node('one', approve, {
    needs: [approved],
    input: ({ approved }) => ({ total: expr<number>`size(${approved})` }),
  });
  expectTypeOf(one).toEqualTypeOf<GraphNode<'one', { by: string }>>();
  wf.node('graph', whole, { input: () => ({ n: 1 }) });

  expect(definitionOf(wf.definition)).toEqual(
    definitionOf(`
name: outer
nodes:
  called:
    for_each: { items: { $input: [names] }, max_parallel: 3 }
    grpc: { address: '127.0.0.1:1', method: S/M }
    input: { name: { $expr: item } }
  approved: { for_each: [1, 2, 3], workflow: approve, input: { total: { $expr: item } } }
  halved: { matrix: { n: [1, 2], of: [a] }, workflow: inner, input: { n: { $expr: 'matrix["n"]' } } }
  others: { matrix: { a: [1] }, workflow: other, version: 2, input: { $expr: matrix } }
  one: { needs: [approved], workflow: approve, input: { total: { $expr: 'size(nodes["approved"].output)' } } }
  graph: { workflow: inner, input: { n: 1 } }
`),
  );
  // @ts-expect-error: the total is a number
  wf.node('wrong', approve, { input: () => ({ total: 'much' }) });
  // @ts-expect-error: the graph takes a number
  wf.matrix('wrong too', whole, { axes: () => ({ n: ['a'] }), input: ({ matrix }) => ({ n: matrix.n }) });
  // @ts-expect-error: what is this?
  expect(() => wf.forEach('odd', { sql: 'select 1' }, { items: () => [1], input: () => 1 })).toThrow(GraphError);
});

test('an expression has its text around what it refers to, and keeps together what it is made of', () => {
  const wf = graph<{ n: number }>({ id: 'texts' });
  wf.node('a', sum, {
    when: ({ input }) => {
      const more = expr<number>`${input.n} + ${1}`;
      return expr<boolean>`has(${input.n}) && 2 * ${more} > ${3} || ${'x'} == "y"`;
    },
    input: () => ({ counts: [] }),
  });
  expect(wf.definition.nodes).toMatchObject([{ when: 'has(input["n"]) && 2 * (input["n"] + 1) > 3 || "x" == "y"' }]);
});

test('what a task returns as a blob is referred to as what is in it', () => {
  const wf = graph({ id: 'blobs' });
  const made = wf.node(film, { input: () => ({ of: 'x' }) });
  expectTypeOf(made.output.frames[0]!).toEqualTypeOf<Reference<number>>();
  wf.node(sum, { needs: [made], input: ({ film }) => ({ counts: film.frames }) });
  expect(definitionOf(wf.definition).nodes).toHaveLength(2);
});
