import { describe, expect, it } from 'vitest';
import { definitionOf, energyFile, nodesFile } from './definition.fixture.ts';
import { CanonicalJsonError, canonicalJson } from './json.ts';
import { fromStoredForm, StoredFormError, toStoredForm } from './stored-form.ts';

describe('a stored definition', () => {
  it.each([
    ['a chain', energyFile()],
    ['nodes', { ...nodesFile({ b: ['a'], a: [] }), description: 'two' }],
    ['odd names', JSON.parse('{"name": "x", "nodes": {"__proto__": {"task": "t", "input": {"__proto__": [1]}}}}')],
  ])('of %s comes back as it was', (_, file) => {
    const definition = definitionOf(file);
    const text = toStoredForm(definition);
    expect(fromStoredForm(text)).toEqual(definition);
    expect(toStoredForm(fromStoredForm(text))).toBe(text);
  });

  it('keeps __proto__ as an id and as a key', () => {
    const file = JSON.parse('{"name": "x", "nodes": {"__proto__": {"task": "t", "input": {"__proto__": [1]}}}}');
    const [node] = fromStoredForm(toStoredForm(definitionOf(file))).nodes;
    expect(node?.id).toBe('__proto__');
    expect(Object.entries(node?.input as object)).toEqual([['__proto__', [1]]]);
  });

  it('has the same text for the same workflow, however its file was ordered', () => {
    const one = { name: 'x', nodes: { a: { task: 't', input: { p: 1, q: 2 } }, b: { needs: ['a'], task: 't' } } };
    const two = { nodes: { b: { task: 't', needs: ['a'] }, a: { input: { q: 2, p: 1 }, task: 't' } }, name: 'x' };
    expect(toStoredForm(definitionOf(one))).toBe(toStoredForm(definitionOf(two)));
    expect(toStoredForm(definitionOf({ ...one, name: 'y' }))).not.toBe(toStoredForm(definitionOf(one)));
  });

  it('is read past fields that a later version added', () => {
    const text = toStoredForm(definitionOf(nodesFile({ a: [] })));
    const later = JSON.parse(text);
    later.colour = 'red';
    later.nodes[0].shape = 'round';
    expect(toStoredForm(fromStoredForm(JSON.stringify(later)))).toBe(text);
  });

  const sound = toStoredForm(definitionOf(nodesFile({ a: [], b: ['a'] })));
  it.each([
    ['no JSON', '{'],
    ['no object', '[]'],
    ['another version', sound.replace('"version":2', '"version":3')],
    ['another form', sound.replace('"form":"nodes"', '"form":"tree"')],
    ['no name', sound.replace('"name"', '"nome"')],
    ['nodes that are no list', sound.replace(/"nodes":\[.*\],"version"/, '"nodes":{},"version"')],
    ['a node that is no object', sound.replace(/"nodes":\[/, '"nodes":[1,')],
    ['a need that is not a node', sound.replace('"needs":["a"]', '"needs":["c"]')],
    ['a cycle', sound.replace('"needs":[]', '"needs":["b"]')],
    ['an id twice', sound.replace('"id":"b"', '"id":"a"')],
    ['needs that are no strings', sound.replace('"needs":["a"]', '"needs":[1]')],
    ['a task class from elsewhere', sound.replace('cpu_short', 'cpu_huge')],
    ['an executor from elsewhere', sound.replace('"type":"function"', '"type":"magic"')],
    ['a number that is none', sound.replace('"priority":0', '"priority":"0"')],
    ['no input', sound.replace('"input":{},', '')],
  ])('with %s is refused', (_, text) => {
    expect(text).not.toBe(sound);
    expect(() => fromStoredForm(text)).toThrow(StoredFormError);
  });
});

describe('canonical JSON', () => {
  it('sorts keys by code unit at every depth and leaves undefined out', () => {
    const value = { b: 1, a: { z: [{ y: 1, x: undefined }], é: 0, Z: 1 }, '10': 0, '9': 0 };
    expect(canonicalJson(value)).toBe('{"10":0,"9":0,"a":{"Z":1,"z":[{"y":1}],"é":0},"b":1}');
  });

  it('says what JSON.parse reads back', () => {
    const text = '{"":[],"__proto__":{"a":-0.5},"s":"\\u0000\\n\\"\\\\","t":[true,false,null,1e+21]}';
    expect(canonicalJson(JSON.parse(text))).toBe(text);
    expect(canonicalJson([-0, '\ud800'])).toBe('[0,"\\ud800"]');
  });

  it('is not bounded by the stack', () => {
    let value: unknown = 0;
    for (let level = 0; level < 100_000; level++) value = [value];
    expect(canonicalJson(value)).toHaveLength(200_001);
  });

  it('may say a value twice but not inside itself', () => {
    const shared = { a: 1 };
    expect(canonicalJson([shared, shared])).toBe('[{"a":1},{"a":1}]');
    const self: unknown[] = [];
    self.push([self]);
    expect(() => canonicalJson(self)).toThrow(CanonicalJsonError);
  });

  it.each([[Number.NaN], [Number.POSITIVE_INFINITY], [1n], [new Date(0)], [() => 1], [undefined], [new Map()]])(
    'refuses %o',
    (value) => {
      expect(() => canonicalJson([value])).toThrow(CanonicalJsonError);
    },
  );
});
