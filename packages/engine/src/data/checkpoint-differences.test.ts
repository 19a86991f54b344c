import { expect, test } from 'vitest';
import { contentDifferences, factDifferences } from './checkpoint-differences.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const differ = (a: unknown, b: unknown, limit = 100) =>
  contentDifferences(bytes(JSON.stringify(a)), bytes(JSON.stringify(b)), limit);
const facts = { sha256: 'aa', sizeBytes: 1, encoding: 1 as const, score: null, metadata: null };

test('facts: hash, size, score, encoding, each key of the metadata', () => {
  expect(factDifferences(facts, facts)).toEqual([]);
  const b = { sha256: 'bb', sizeBytes: 2, encoding: 2 as const, score: 0, metadata: { k: 'v', __proto__x: '1' } };
  expect(factDifferences(facts, b)).toEqual([
    { what: 'sha256', a: 'aa', b: 'bb' },
    { what: 'size_bytes', a: '1', b: '2' },
    { what: 'score', a: '', b: '0' },
    { what: 'encoding', a: 'json', b: 'bytes' },
    { what: 'metadata.__proto__x', a: '', b: '1' },
    { what: 'metadata.k', a: '', b: 'v' },
  ]);
});

test('values that differ are named by their JSON pointers, those that are the same are not', () => {
  expect(
    differ(
      { a: 1, b: [1, 2, { c: 'x' }], same: { deep: [null] } },
      { a: 2, b: [1, 3, { c: 'y' }], same: { deep: [null] } },
    ),
  ).toEqual([
    { what: '/a', a: '1', b: '2' },
    { what: '/b/1', a: '2', b: '3' },
    { what: '/b/2/c', a: '"x"', b: '"y"' },
  ]);
  expect(differ([1, 2], [1])).toEqual([{ what: '/1', a: '2', b: '' }]);
  expect(differ({ 'a/b~c': 1 }, { 'a/b~c': null })).toEqual([{ what: '/a~1b~0c', a: '1', b: 'null' }]);
  expect(differ([1], { 0: 1 })).toEqual([{ what: '', a: '[1]', b: '{"0":1}' }]);
  expect(differ(1, '1')).toEqual([{ what: '', a: '1', b: '"1"' }]);
  expect(differ({ a: 1, b: 2 }, { b: 2, a: 1 })).toEqual([]);
});

test('what objects inherit is not taken for a member', () => {
  expect(differ({}, { toString: 1 })).toEqual([{ what: '/toString', a: '', b: '1' }]);
  expect(contentDifferences(bytes('{"__proto__":{"x":1}}'), bytes('{"__proto__":{"x":2}}'), 9)).toEqual([
    { what: '/__proto__/x', a: '1', b: '2' },
  ]);
});

test('no more than asked for; long values are cut; what is not JSON has no pointers', () => {
  expect(differ(Array(50).fill(1), Array(50).fill(2), 7)).toHaveLength(7);
  const [difference] = differ('x'.repeat(5_000), 'y');
  expect(difference!.a.length).toBeLessThan(1_100);
  expect(contentDifferences(bytes('{"a":1'), bytes('1'), 9)).toEqual([]);
  expect(contentDifferences(Uint8Array.of(0xff), bytes('1'), 9)).toEqual([]);
});

test('nesting without end is survived', () => {
  const deep = (inner: string, depth: number) => bytes('['.repeat(depth) + inner + ']'.repeat(depth));
  expect(contentDifferences(deep('1', 150), deep('2', 150), 9)).toEqual([{ what: '/0'.repeat(150), a: '1', b: '2' }]);
  expect(contentDifferences(deep('1', 1_000), deep('1', 1_000), 9)).toEqual([]);
  expect(contentDifferences(deep('1', 1_000), deep('2', 1_000), 9)).toHaveLength(1);
  expect(contentDifferences(deep('1', 500_000), deep('2', 500_000), 9).length).toBeLessThanOrEqual(1);
});
