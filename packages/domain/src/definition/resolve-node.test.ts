import { describe, expect, it } from 'vitest';
import { definitionOf, expressions } from './definition.fixture.ts';
import { resolveInput } from './input-template.ts';
import type { JsonValue } from './json.ts';
import { nodesReadBy, nodesReadInto, resolveItems, resolveWhen } from './resolve-node.ts';

const outputs = new Map<string, JsonValue>([['list', { files: ['a', 'b'], many: Array(100_001).fill(0) }]]);
const variables = {
  input: { year: 2024, sizes: [1, 2] },
  nodes: new Map([['list', { state: 'succeeded' as const, output: outputs.get('list')!, failure: null }]]),
  run: { id: 'r', execution: 1 },
};
const context = { expressions, variables };

describe('an input', () => {
  it('gets the values of expressions, with the item where there is one', () => {
    const template = { y: { $expr: 'input.year + 1' }, of: { $expr: 'item + string(index)' } };
    const resolved = resolveInput(template, variables.input, outputs, {
      expressions,
      variables: { ...variables, item: 'x', index: 2 },
    });
    expect(resolved).toEqual({ ok: true, value: { y: 2025, of: 'x2' } });
  });

  it('says which expression has no value, and why', () => {
    const resolved = resolveInput({ y: { $expr: 'input.yaer' } }, variables.input, outputs, context);
    expect(resolved).toMatchObject({
      ok: false,
      unresolved: [{ message: 'the expression "input.yaer" has no value: field not found: yaer' }],
    });
  });
});

describe('a when', () => {
  it('is true or false', () => {
    expect(resolveWhen('size(nodes.list.output.files) == 2', context)).toEqual({ ok: true, value: true });
    expect(resolveWhen('input.year < 2000', context)).toEqual({ ok: true, value: false });
  });

  it('is refused when it is neither, or has no value', () => {
    expect(resolveWhen('input.year', context)).toMatchObject({
      ok: false,
      message: expect.stringContaining('a number'),
    });
    expect(resolveWhen('input.x.y', context)).toEqual({
      ok: false,
      message: '"when" ("input.x.y") has no value: field not found: x',
    });
  });
});

describe('the items of a fan-out', () => {
  it('are those of the list', () => {
    expect(resolveItems({ items: [1, { $input: ['year'] }] }, outputs, context)).toEqual({
      ok: true,
      value: [1, 2024],
    });
    expect(resolveItems({ items: { $from: 'list', path: ['files'] } }, outputs, context)).toEqual({
      ok: true,
      value: ['a', 'b'],
    });
    expect(resolveItems({ items: { $expr: 'nodes.list.output.files.map(f, f + "!")' } }, outputs, context)).toEqual({
      ok: true,
      value: ['a!', 'b!'],
    });
    expect(resolveItems({ items: [] }, outputs, context)).toEqual({ ok: true, value: [] });
  });

  it('of a matrix are the combinations, the last axis fastest', () => {
    const matrix = { size: { $input: ['sizes'] }, os: ['linux', 'mac'] };
    expect(resolveItems({ matrix }, outputs, context)).toEqual({
      ok: true,
      value: [
        { os: 'linux', size: 1 },
        { os: 'linux', size: 2 },
        { os: 'mac', size: 1 },
        { os: 'mac', size: 2 },
      ],
    });
    expect(resolveItems({ matrix: { a: [], b: [1] } }, outputs, context)).toEqual({ ok: true, value: [] });
  });

  it.each([
    [{ items: { $input: ['year'] } }, /"for_each" must be a list, its value is a number/],
    [{ items: { $from: 'list', path: ['none'] } }, /has nothing at/],
    [{ items: { $from: 'list', path: ['many'] } }, /100001 items, 100000 is the most/],
    [{ matrix: { a: Array(400).fill(0), b: Array(400).fill(0) } }, /160000 items/],
    [{ matrix: { a: { $expr: '1/0' } } }, /the list "a" of "matrix": the expression "1\/0" has no value/],
  ])('are refused: %j'.slice(0, 16), (forEach, message) => {
    expect(resolveItems(forEach, outputs, context)).toEqual({ ok: false, message: expect.stringMatching(message) });
  });
});

describe('the nodes that a node reads', () => {
  it('are told from those of which it wants a part', () => {
    const file = {
      name: 'x',
      nodes: {
        whole: { task: 't' },
        part: { task: 't' },
        state: { task: 't' },
        items: { task: 't' },
        computed: { task: 't' },
        reader: {
          needs: ['whole', 'part', 'state', 'items', 'computed'],
          task: 't',
          when: 'nodes.state.state == "succeeded"',
          for_each: { $from: 'items' },
          input: [{ $from: 'whole' }, { $from: 'part', path: ['a'] }, { $expr: 'size(nodes.computed.output)' }],
        },
      },
    };
    const reader = definitionOf(file).nodes.find(({ id }) => id === 'reader')!;
    expect([...nodesReadBy(reader, expressions)].sort()).toEqual(['computed', 'items', 'part', 'state', 'whole']);
    expect([...nodesReadInto(reader, expressions)].sort()).toEqual(['computed', 'items', 'part']);
  });
});
