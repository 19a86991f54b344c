import { expect, test } from 'vitest';
import { analyzeHouseholds } from './households.ts';

const at = (hour: number, fields: string) => [
  `2026-01-05T${String(hour).padStart(2, '0')}:00:00Z`,
  ...fields.split(','),
];

test('efficiency is power over voltage × current', () => {
  const [reading] = analyzeHouseholds([at(0, 'H1,460,230,2.5')]).readings;
  expect(reading).toEqual({
    timestamp: '2026-01-05T00:00:00Z',
    household: 'H1',
    power: 460,
    voltage: 230,
    current: 2.5,
    efficiency: 0.8,
    status: 'normal',
  });
});

test('below 0.1 is an anomaly; 0.1 itself, and more than 1, are not', () => {
  const { readings } = analyzeHouseholds([
    at(0, 'H1,9.375,100,1'),
    at(1, 'H1,10,100,1'),
    at(2, 'H1,0,100,1'),
    at(3, 'H1,150,100,1'),
  ]);
  expect(readings.map(({ efficiency, status }) => [efficiency, status])).toEqual([
    [0.09375, 'anomaly'],
    [0.1, 'normal'],
    [0, 'anomaly'],
    [1.5, 'normal'],
  ]);
});

test.each([
  [at(0, 'H1,1,2'), 'wrong number of fields'],
  [at(0, 'H1,1,2,3,4'), 'wrong number of fields'],
  [['yesterday', 'H1', '1', '2', '3'], 'timestamp is not a time'],
  [['2026-02-30T00:00:00Z', 'H1', '1', '2', '3'], 'timestamp is not a time'],
  [at(0, ' ,1,2,3'), 'household_id is empty'],
  [at(0, 'H1,,2,3'), 'power_consumption is not a number'],
  [at(0, 'H1,-1,2,3'), 'power_consumption is negative'],
  [at(0, 'H1,1,NaN,3'), 'voltage is not a number'],
  [at(0, 'H1,1,0,3'), 'voltage is not above 0'],
  [at(0, 'H1,1,2,0x3'), 'current is not a number'],
  [at(0, 'H1,1,2,0'), 'current is not above 0'],
  [at(0, 'H1,1,-2,-3'), 'voltage is not above 0'],
  [at(0, 'H1,1e300,1e-300,1e-300'), 'efficiency is not finite'],
  [at(5, 'H1,1,2,3'), 'second reading of a household at the same time'],
])('%j is skipped: %s', (row, reason) => {
  const { rows, readings } = analyzeHouseholds([at(5, 'H1,100,100,2'), row]);
  expect(readings).toHaveLength(1);
  expect(rows).toEqual({
    read: 2,
    used: 1,
    skipped: 1,
    skippedByReason: [{ reason, rows: 1 }],
    firstSkipped: [{ row: 2, reason }],
  });
});

test('all skipped rows are counted, by reason, while only the first are listed', () => {
  const rows = [at(0, 'H1,100,100,2'), ...Array.from({ length: 80 }, () => ['x']), at(1, 'H1,1,0,1')];
  const { rows: counts } = analyzeHouseholds(rows);
  expect(counts.skippedByReason).toEqual([
    { reason: 'wrong number of fields', rows: 80 },
    { reason: 'voltage is not above 0', rows: 1 },
  ]);
  expect(counts.firstSkipped).toHaveLength(50);
});

test('a file without a usable reading is refused with the reasons', () => {
  expect(() => analyzeHouseholds([['x']])).toThrow('no usable reading among 1 rows (1 × wrong number of fields)');
  expect(() => analyzeHouseholds([])).toThrow('no usable reading among 0 rows');
});

test('sums up each household, whatever its name', () => {
  const { households } = analyzeHouseholds([
    at(0, '__proto__,75,100,1'),
    at(0, 'A,80,100,1'),
    at(1, '__proto__,6.25,100,1'),
  ]);
  expect(households).toEqual([
    { household: 'A', readings: 1, anomalies: 0, medianEfficiency: 0.8, minEfficiency: 0.8 },
    { household: '__proto__', readings: 2, anomalies: 1, medianEfficiency: 0.40625, minEfficiency: 0.0625 },
  ]);
});
