const step = (ms: number, needs: readonly string[] = []) => ({ task: 'step', needs, input: { ms } });
const retry = { max_attempts: 3, initial_delay_seconds: 0.1 };

/** Small workflows: a chain, a diamond, one whose middle fails at first, one that cannot succeed. */
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
];
