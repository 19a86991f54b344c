import { expect, test } from 'vitest';
import { analyzeHouseholds } from '../analyzer/households.ts';
import { makeHouseholds } from './households.ts';

test('the same seed makes the same rows, another seed others', () => {
  const spec = { households: 4, hours: 30, seed: 7 };
  expect(makeHouseholds(spec)).toEqual(makeHouseholds(spec));
  expect(makeHouseholds({ ...spec, seed: 8 }).rows).not.toEqual(makeHouseholds(spec).rows);
});

test.each([
  { households: 1, hours: 1, seed: 0 },
  { households: 2, hours: 10, seed: 1 },
  { households: 12, hours: 168, seed: 42 },
  { households: 50, hours: 100, seed: 3 },
])('the analyzer finds exactly the anomalies and broken rows that were planted: %o', (spec) => {
  const { rows, planted } = makeHouseholds(spec);
  expect(rows).toHaveLength(spec.households * spec.hours);
  const { readings, rows: counts } = analyzeHouseholds(rows);
  expect(counts.skipped).toBe(planted.badRows);
  expect(readings.filter(({ status }) => status === 'anomaly')).toHaveLength(planted.anomalies);
});

test('of 2016 readings, 1 % are anomalies and 0.5 % are broken, in every way that there is', () => {
  const { rows, planted } = makeHouseholds({ households: 12, hours: 168, seed: 42 });
  expect(planted).toEqual({ anomalies: 20, badRows: 10 });
  expect(
    analyzeHouseholds(rows)
      .rows.skippedByReason.map(({ reason }) => reason)
      .sort(),
  ).toEqual([
    'current is not a number',
    'household_id is empty',
    'power_consumption is negative',
    'timestamp is not a time',
    'voltage is not a number',
    'voltage is not above 0',
    'wrong number of fields',
  ]);
});
