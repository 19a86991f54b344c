import { expect, it } from 'vitest';
import { isDeeperThan } from './json-depth.ts';

it.each([
  ['[[[]]]', 3],
  ['[[[]],[[]],{"a":[]}]', 3],
  ['{"[[[[":"]]{{","\\"[":["\\\\",[1]]}', 3],
  ['[]', 1],
  ['1', 0],
  ['"[[["', 0],
  ['{"a":{"b":{"c":[{}]}}}', 5],
])('%s is %i deep', (text, depth) => {
  JSON.parse(text);
  expect(isDeeperThan(text, depth)).toBe(false);
  if (depth > 0) expect(isDeeperThan(text, depth - 1)).toBe(true);
});

it('takes a long flat text and a deep one for what they are', () => {
  expect(isDeeperThan(JSON.stringify(Array(100_000).fill([1])), 2)).toBe(false);
  expect(isDeeperThan('['.repeat(100_000) + ']'.repeat(100_000), 99_999)).toBe(true);
});
