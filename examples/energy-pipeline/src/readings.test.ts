import { expect, test } from 'vitest';
import { formatReadings, type Origin, parseReadings, readingsFromCsv } from './readings.ts';

const origin: Origin = {
  description: 'The rows of x.csv',
  source: 'x.csv',
  licence: null,
  place: null,
  sha256: 'ab',
  synthetic: false,
};

test('tells the two kinds of rows apart by their header, in any order and with other columns around', () => {
  const iowa = readingsFromCsv('note,net_generation,source,year\nn,12,Wind,2001\n', origin);
  expect(iowa).toEqual({ dataset: 'iowa-electricity', origin, rows: [['2001', 'Wind', '12']] });
  const homes = readingsFromCsv('timestamp,household_id,power_consumption,voltage,current\nt,H1,1,2,3\n', origin);
  expect(homes.dataset).toBe('household-readings');
});

test('a row of the wrong length is never taken for a good one', () => {
  const { rows } = readingsFromCsv('note,year,source,net_generation\n2001,Wind,12\n', origin);
  expect(rows[0]).not.toHaveLength(3);
});

test('an unknown header is refused with both known ones', () => {
  expect(() => readingsFromCsv('a,b\n1,2\n', origin)).toThrow(
    'its header is "a,b"; known are "timestamp,household_id,power_consumption,voltage,current" and "year,source,net_generation"',
  );
  expect(() => readingsFromCsv('', origin)).toThrow('it is empty');
});

test('JSON carries rows and origin, CSV the rows', () => {
  const readings = readingsFromCsv('year,source,net_generation\n2001,"Wind, on land",12\n2001,short\n', origin);
  expect(parseReadings(formatReadings(readings, 'json'), { ...origin, source: 'other' })).toEqual(readings);
  expect(parseReadings(formatReadings(readings, 'csv'), origin)).toEqual(readings);
});

test.each([
  ['{', 'it is not JSON'],
  ['[]', 'the file must be an object'],
  ['{"format":"energy-readings/2"}', 'format must be "energy-readings/1", but is "energy-readings/2"'],
  [
    '{"format":"energy-readings/1","dataset":"__proto__"}',
    'dataset must be "household-readings" or "iowa-electricity"',
  ],
  ['{"format":"energy-readings/1","dataset":"iowa-electricity","columns":["a"]}', 'columns are "a"'],
  [
    '{"format":"energy-readings/1","dataset":"iowa-electricity","columns":["year","source","net_generation"],"rows":[["1",2]],' +
      '"origin":{"description":"","source":"","licence":null,"place":null,"sha256":null,"synthetic":false}}',
    'rows[0][1] must be a string, but is 2',
  ],
])('%s is refused: %s', (text, message) => {
  expect(() => parseReadings(text, origin)).toThrow(message);
});
