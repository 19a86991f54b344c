import { expect, test } from 'vitest';
import { inputOf, objectOfPairs } from './input.ts';

test('JSON is kept byte for byte', () => {
  expect(inputOf(['{ "id": 12345678901234567890 }'])).toEqual({ json: '{ "id": 12345678901234567890 }' });
  expect(inputOf(['"a=1"'])).toEqual({ json: '"a=1"' });
  expect(inputOf(['7'])).toEqual({ json: '7' });
});

test('pairs become an object; values are JSON or text', () => {
  expect(objectOfPairs(['n=7', 'flag=true', 'name=Ada', 'list=[1,2]', 'empty=', 'eq=a=b', 'quoted="7"'])).toEqual({
    n: 7,
    flag: true,
    name: 'Ada',
    list: [1, 2],
    empty: '',
    eq: 'a=b',
    quoted: '7',
  });
});

test('numbers that would not read back as they were typed stay text', () => {
  expect(objectOfPairs(['id=12345678901234567890', 'price=1.50', 'zip=01234', 'big=1e400'])).toEqual({
    id: '12345678901234567890',
    price: '1.50',
    zip: '01234',
    big: '1e400',
  });
});

test('__proto__ is a key like any other', () => {
  expect(inputOf(['__proto__=1'])).toEqual({ json: '{"__proto__":1}' });
});

test('no input is none', () => {
  expect(inputOf(undefined)).toBeUndefined();
  expect(inputOf([])).toBeUndefined();
});
