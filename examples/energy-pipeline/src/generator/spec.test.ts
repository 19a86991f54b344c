import { expect, test } from 'vitest';
import { parseSpec } from './spec.ts';

test('fills in what is not given', () => {
  expect(parseSpec('{}')).toEqual({ source: 'households', households: 12, hours: 168, seed: 42 });
  expect(parseSpec('{"source":"households","households":3,"seed":0}')).toEqual({
    source: 'households',
    households: 3,
    hours: 168,
    seed: 0,
  });
  expect(parseSpec('{"source":"iowa-electricity"}')).toEqual({ source: 'iowa-electricity' });
});

test('lists everything that is wrong at once', () => {
  expect(() => parseSpec('{"households":0,"hours":1.5,"seed":"7","houses":2}')).toThrow(
    '"houses" is unknown for households; households must be a whole number from 1 to 1000, but is 0; ' +
      'hours must be a whole number from 1 to 8784, but is 1.5; ' +
      'seed must be a whole number from 0 to 4294967295, but is "7"',
  );
});

test.each([
  ['', 'it is not JSON'],
  ['[1]', 'it must hold a JSON object'],
  ['{"source":"mars"}', 'source must be one of households, iowa-electricity, but is "mars"'],
  ['{"source":"iowa-electricity","hours":3}', '"hours" is unknown for iowa-electricity'],
  ['{"households":1000,"hours":8784}', 'households × hours is 8784000; the limit is 100000'],
])('%s is refused: %s', (text, message) => {
  expect(() => parseSpec(text)).toThrow(message);
});
