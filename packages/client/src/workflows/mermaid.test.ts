import { expect, test } from 'vitest';
import type { RunNodeView, RunView } from '../runs/run-view.ts';
import { task } from '../tasks/task.ts';
import { graph } from './graph.ts';
import { toMermaid } from './mermaid.ts';

const echo = task({ id: 'echo', run: (input: unknown) => input });

test('a graph: what needs what, fan-outs, matrices, workflows, conditions and the types of needs', () => {
  const wf = graph({ id: 'drawn' });
  const a = wf.node('a', echo, { input: () => 1 });
  const each = wf.forEach('each', echo, { needs: [a], items: () => [1, 2], input: ({ item }) => item });
  wf.workflow('sub', { name: 'other' }, { needs: [a, each], edges: { a: 'control', each: 'reward' } });
  const { nodes, ...rest } = wf.definition;
  const definition = {
    ...rest,
    nodes: [...(nodes as object[]), { id: 'm', task: 'm', matrix: { os: ['x'] }, when: 'input.go' }],
  };
  expect(toMermaid(wf)).toBe(`flowchart TD
  n0["a<br/>echo"]
  n1[["each<br/>echo"]]
  n2(["sub<br/>other"])
  n0 --> n1
  n0 -. control .-> n2
  n1 -. reward .-> n2
`);
  expect(toMermaid(definition)).toContain('{{"m<br/>when input.go"}}');
});

test('the chain form is drawn, too; what is not sound is refused', () => {
  const node = (id: string, next_node: string | null) => ({
    id,
    input_file: 'i',
    output_file: 'o',
    next_node,
    timeout_seconds: 1,
  });
  const chain = {
    workflow_name: 'chain',
    start_node: 'a',
    execution_mode: 'grpc',
    service_registry: { a: '127.0.0.1:1', b: '127.0.0.1:2' },
    containers: { a: node('a', 'b'), b: node('b', null) },
  };
  expect(toMermaid(chain)).toContain('  n0 --> n1\n');
  expect(() => toMermaid({ name: 'x', nodes: { a: { task: 't', needs: ['b'] } } })).toThrow('not sound');
});

test('no name breaks out of its label', () => {
  const hostile = [
    '"] --> x["',
    '%%{init: {"theme":"dark"}}%%',
    'a\n  click n0 href "javascript:alert(1)"',
    '<script>alert(1)</script>',
    '#quot;`**b**`\\n;',
    'style x:#f;',
    'constructor',
  ];
  // A definition may not have a line break in a name.
  const nodes = hostile.filter((id) => !id.includes('\n')).map((id) => ({ id, task: id }));
  const run = { ...RUN, nodes: hostile.map((nodeId) => ({ ...NODE, nodeId })) };
  for (const [count, drawn] of [
    [nodes.length, toMermaid({ name: 'hostile', nodes })],
    [hostile.length, toMermaid(run)],
  ] as const) {
    const lines = drawn.trimEnd().split('\n');
    for (const line of lines.slice(1)) {
      expect(line).toMatch(
        /^ {2}(n\d+\["([\p{L}\p{N} _.,()=+-]|#\d+;|<br\/>)*"\]|n\d+ --> n\d+|class n[\dn,]+ \w+|classDef \w+ [\w:#,\- ]+)$/u,
      );
    }
    expect(lines.filter((line) => line.includes('["'))).toHaveLength(count);
  }
});

test('a run: states as classes, items and results that were used again in words', () => {
  const drawn = toMermaid({
    ...RUN,
    nodes: [
      { ...NODE, nodeId: 'a', state: 'succeeded', cached: true },
      { ...NODE, nodeId: 'b', state: 'failed', needs: ['a'], items: { total: 10, succeeded: 3, failed: 1 } },
      { ...NODE, nodeId: 'c', state: 'succeeded', needs: ['a'], childRunId: '7' },
    ],
  });
  expect(drawn).toContain('n0["a<br/>succeeded, cached"]');
  expect(drawn).toContain('n1[["b<br/>failed<br/>3 of 10, 1 failed"]]');
  expect(drawn).toContain('n2(["c<br/>succeeded"])');
  expect(drawn).toContain('  n0 --> n1\n  n0 --> n2\n');
  expect(drawn).toMatch(/classDef succeeded .*\n {2}class n0,n2 succeeded\n/);
  expect(drawn).toMatch(/class n1 failed\n/);
});

const NODE: RunNodeView = { nodeId: '', state: 'pending', attempts: 0, needs: [], execution: 1, wave: 0, labels: {} };
const RUN: RunView = {
  id: '1',
  namespace: 'default',
  workflowName: 'drawn',
  workflowVersion: 1,
  execution: 1,
  state: 'running',
  nodes: [],
  nodesTotal: 0,
  nodesSucceeded: 0,
  stepsCompleted: 0,
  current: [],
  labels: {},
};
