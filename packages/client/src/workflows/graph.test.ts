import { expect, test } from 'vitest';
import { task } from '../tasks/task.ts';
import { graph } from './graph.ts';
import { expr, GraphError } from './graph-reference.ts';
import { checkWorkflow, checkWorkflowFile } from './workflow-file.ts';

const listFiles = task({ id: 'list-files', run: (_: { year: number }) => ({ files: [{ name: 'a', size: 1 }] }) });
const count = task({ id: 'count', retry: { maxAttempts: 2 }, run: (_: { file: string; n: number }) => 1 });
const sum = task({ id: 'sum', run: (_: { counts: number[] }) => ({ total: 1 }) });
const publish = task({ id: 'publish', run: (_: { total: number }) => null });

const FILE = `
name: report
output: { total: { $from: reduce, path: [total] } }
nodes:
  list: { task: list-files, input: { year: { $input: [year] } } }
  map:
    needs: [list]
    for_each: { items: { $from: list, path: [files] }, max_parallel: 50 }
    task: count
    retry: { max_attempts: 2 }
    input: { file: { $expr: 'item["name"]' }, n: { $expr: index } }
  reduce: { needs: [map], task: sum, input: { counts: { $from: map } } }
  publish:
    needs: [{ node: reduce, type: control }]
    when: 'nodes["reduce"].output["total"] > 10'
    task: publish
    timeout_seconds: 60
    type: deployment
    input: { total: { $from: reduce, path: [total] } }
`;

test('a graph says what the file that was written by hand says', () => {
  const wf = graph<{ year: number }>({ id: 'report' });
  const list = wf.node('list', listFiles, { input: ({ input }) => ({ year: input.year }) });
  const map = wf.forEach('map', count, {
    needs: [list],
    items: ({ list }) => list.files,
    maxParallel: 50,
    input: ({ item, index }) => ({ file: item.name, n: index }),
  });
  const reduce = wf.node('reduce', sum, { needs: [map], input: ({ map }) => ({ counts: map }) });
  wf.node('publish', publish, {
    needs: [reduce],
    when: ({ reduce }) => expr<boolean>`${reduce.total} > 10`,
    startToCloseTimeoutMs: 60_000,
    type: 'deployment',
    edges: { reduce: 'control' },
    input: ({ reduce }) => ({ total: reduce.total }),
  });
  wf.output({ total: reduce.output.total });
  const built = checkWorkflow(JSON.parse(JSON.stringify(wf.definition)));
  const written = checkWorkflowFile(FILE);
  if (!built.ok || !written.ok) throw new Error(JSON.stringify([built, written], null, 2));
  expect(built.definition).toEqual(written.definition);
});

test('a reference to what is not needed, a second node of an id, another graph’s node, no JSON: refused', () => {
  const wf = graph<{ year: number }>({ id: 'report' });
  const list = wf.node('list', listFiles, { input: ({ input }) => ({ year: input.year }) });
  const reduce = wf.node('reduce', sum, { input: () => ({ counts: [1] }) });
  expect(() => wf.node('p', publish, { needs: [list], input: () => ({ total: reduce.output.total }) })).toThrow(
    new GraphError('the node "p" refers to "reduce", which is not among its needs'),
  );
  expect(() => wf.node('list', sum, { input: () => ({ counts: [] }) })).toThrow('two nodes "list"');
  const other = graph({ id: 'other' });
  expect(() => other.node('p', publish, { needs: [reduce], input: ({ reduce }) => reduce })).toThrow('another graph');
  expect(() => wf.node('q', publish, { input: () => ({ total: Number.NaN }) })).toThrow('an input is JSON');
});

test('the compiler refuses what does not fit', () => {
  const wf = graph<{ year: number; who: string }>({ id: 'types' });
  const list = wf.node('list', listFiles, { input: ({ input }) => ({ year: input.year }) });
  // @ts-expect-error: a string is no number
  wf.node('a', listFiles, { input: ({ input }) => ({ year: input.who }) });
  // @ts-expect-error: the field is missing
  wf.node('b', listFiles, { input: () => ({}) });
  // @ts-expect-error: a task that takes something needs an input
  wf.node('c', listFiles);
  // @ts-expect-error: "list" is not among the needs
  expect(() => wf.node('d', sum, { input: ({ list }) => ({ counts: list.files }) })).toThrow();
  // @ts-expect-error: a list of objects is no list of numbers
  wf.node('e', sum, { needs: [list], input: ({ list }) => ({ counts: list.files }) });
  wf.forEach('f', count, {
    needs: [list],
    items: ({ list }) => list.files,
    // @ts-expect-error: the size is a number
    input: ({ item }) => ({ file: item.size, n: 1 }),
  });
  expect(wf.definition.nodes).toHaveLength(6);
});

test('services, other workflows, matrices, caches, joins, failures that do not stop, states in conditions', () => {
  const wf = graph<{ sizes: number[] }>({ id: 'all' });
  const build = task({ id: 'build', run: (_: { os: 'linux' | 'mac'; size: number }) => 'path' });
  const call = wf.grpc<{ ok: boolean }>('call', { address: '127.0.0.1:1', method: 'S/M' }, { input: () => ({ a: 1 }) });
  const sub = wf.workflow<number>('sub', { name: 'other', version: 3 }, { needs: [call], onFailure: 'continue' });
  const built = wf.matrix('built', build, {
    needs: [sub],
    axes: ({ input }) => ({ os: ['linux', 'mac'], size: input.sizes }),
    maxParallel: 2,
    cache: { ttlMs: 60_000, key: ({ input }) => input.sizes },
    labels: { team: 'energy' },
    input: ({ matrix }) => ({ os: matrix.os, size: matrix.size }),
  });
  wf.node('mend', publish, {
    needs: [sub, built],
    join: 'always',
    when: () => expr<boolean>`${sub.state} == "failed"`,
    input: () => ({ total: 1 }),
  });
  wf.matrix('wrong', build, {
    axes: () => ({ os: ['linux', 'mac'], size: ['large'] }),
    // @ts-expect-error: the size is a number
    input: ({ matrix }) => ({ os: matrix.os, size: matrix.size }),
  });
  expect(() =>
    wf.node('p', publish, { when: () => expr<boolean>`${sub.state} == "failed"`, input: () => ({ total: 1 }) }),
  ).toThrow('not among its needs');
  const made = checkWorkflow(wf.definition);
  const written = checkWorkflowFile(`
name: all
nodes:
  call: { grpc: { address: '127.0.0.1:1', method: S/M }, input: { a: 1 } }
  sub: { workflow: other, version: 3, needs: [call], on_failure: continue }
  built:
    needs: [sub]
    task: build
    matrix: { axes: { os: [linux, mac], size: { $input: [sizes] } }, max_parallel: 2 }
    cache: { ttl_seconds: 60, key: { $input: [sizes] } }
    labels: { team: energy }
    input: { os: { $expr: 'matrix["os"]' }, size: { $expr: 'matrix["size"]' } }
  mend: { needs: [sub, built], join: always, when: 'nodes["sub"].state == "failed"', task: publish, input: { total: 1 } }
  wrong:
    task: build
    matrix: { os: [linux, mac], size: [large] }
    input: { os: { $expr: 'matrix["os"]' }, size: { $expr: 'matrix["size"]' } }
`);
  if (!made.ok || !written.ok) throw new Error(JSON.stringify([made, written], null, 2));
  expect(made.definition).toEqual(written.definition);
});
