const step = (ms: number, needs: readonly string[] = []) => ({ task: 'step', needs, input: { ms } });
const retry = { max_attempts: 3, initial_delay_seconds: 0.1 };

const ITEMS = Array.from({ length: 12 }, (_, i) => i);

/** So many at once, gathered in the order of the items. */
function fanOf(each: object): Record<string, object> {
  return {
    each: { for_each: { items: ITEMS, max_parallel: 5 }, ...each },
    gather: { needs: ['each'], task: 'gather', input: { $from: 'each' } },
  };
}

/** Each node needs the one above and the one on its left. */
function lattice(side: number): Record<string, object> {
  const nodes: Record<string, object> = {};
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const needs = [...(row > 0 ? [`r${row - 1}c${column}`] : []), ...(column > 0 ? [`r${row}c${column - 1}`] : [])];
      nodes[`r${row}c${column}`] = { task: 'plain', needs, input: { ms: 1 } };
    }
  return nodes;
}

/** Small workflows: a chain, a diamond, one whose middle fails at first, one that cannot succeed; fan-outs, of runs too, and a lattice. */
export const WORKFLOWS: readonly { readonly name: string; readonly [field: string]: unknown }[] = [
  { name: 'chain', nodes: { a: step(10), b: step(10, ['a']), c: step(10, ['b']) } },
  { name: 'diamond', nodes: { a: step(5), b: step(300, ['a']), c: step(20, ['a']), d: step(5, ['b', 'c']) } },
  {
    name: 'shaky',
    defaults: { retry },
    nodes: {
      a: step(5),
      b: { task: 'fails', needs: ['a'], input: { times: 2, how: 'error' } },
      c: step(5, ['b']),
    },
  },
  {
    name: 'doomed',
    defaults: { retry },
    nodes: { a: { task: 'fails', input: { times: 9, how: 'final' } }, b: step(5, ['a']), c: step(50) },
  },
  { name: 'fan', output: { $from: 'gather' }, nodes: fanOf({ task: 'square', input: { $expr: 'item' } }) },
  { name: 'lattice', nodes: lattice(5) },
  // Items that are runs: made before the step that waits for them is written.
  { name: 'sagas', output: { $from: 'gather' }, nodes: fanOf({ workflow: 'saga', input: { $expr: 'item' } }) },
  {
    name: 'nested',
    output: { $from: 'gather' },
    nodes: { inner: { workflow: 'fan' }, gather: { needs: ['inner'], task: 'gather', input: { $from: 'inner' } } },
  },
];

/** What a run of it gives when it succeeds. */
export const OUTPUTS: Readonly<Record<string, unknown>> = {
  fan: ITEMS.map((item) => item * item),
  nested: ITEMS.map((item) => item * item),
  sagas: ITEMS.map((item) => item * 10),
};

/** Started by their names, which workers register. */
export const FUNCTIONS = ['saga'] as const;
