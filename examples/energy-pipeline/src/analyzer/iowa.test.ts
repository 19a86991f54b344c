import { expect, test } from 'vitest';
import { analyzeIowa } from './iowa.ts';

/** Rows of two sources whose first has these shares, in percent of 1000. */
const rowsOf = (shares: readonly number[], firstYear = 2001) =>
  shares.flatMap((share, i) => [
    [`${firstYear + i}-01-01`, 'Wind', String(share * 10)],
    [`${firstYear + i}-01-01`, 'Coal', String(1000 - share * 10)],
  ]);

const windOf = (rows: string[][]) => analyzeIowa(rows).readings.filter(({ source }) => source === 'Wind');

test('share of the year, growth against the year before, of each source and in all', () => {
  const { readings, years } = analyzeIowa([
    ['2001', 'Wind', '100'],
    ['2001', 'Coal', '300'],
    ['2002', 'Wind', '300'],
    ['2002', 'Coal', '300'],
  ]);
  expect(
    readings.map(({ year, source, sharePct, shareChangePp, growthPct }) => [
      year,
      source,
      sharePct,
      shareChangePp,
      growthPct,
    ]),
  ).toEqual([
    [2001, 'Wind', 25, null, null],
    [2001, 'Coal', 75, null, null],
    [2002, 'Wind', 50, 25, 200],
    [2002, 'Coal', 50, -25, 0],
  ]);
  expect(years).toEqual([
    { year: 2001, total: 400, totalGrowthPct: null },
    { year: 2002, total: 600, totalGrowthPct: 50 },
  ]);
});

test('a change is an anomaly beyond 3 robust sigmas of the usual change, and not at less', () => {
  // Changes 1, 2, 3, 2, 1, 3, 2 and one more: median 2, MAD 1 (also with it), so 3 sigmas end at 2 + 3 × 1.4826 = 6.4478.
  const shares = [10, 11, 13, 16, 18, 19, 22, 24];
  const last = (change: number) => windOf(rowsOf([...shares, 24 + change])).at(-1)!;
  expect(last(6.4)).toMatchObject({ status: 'normal' });
  expect(last(6.5)).toMatchObject({ status: 'anomaly' });
  expect(last(6.5).score).toBeCloseTo(4.5 / 1.4826, 10);
  expect(last(-2.4)).toMatchObject({ status: 'normal' });
  expect(last(-2.5)).toMatchObject({ status: 'anomaly' });
});

test('nothing is scored with fewer than five changes', () => {
  expect(windOf(rowsOf([10, 11, 13, 16, 60])).map(({ status }) => status)).toEqual(Array(5).fill('not_scored'));
  expect(windOf(rowsOf([10, 11, 13, 16, 18, 60])).at(-1)).toMatchObject({ status: 'anomaly' });
});

test('where all changes are alike, rounding is no anomaly, and a real change is', () => {
  const status = (shares: number[]) => windOf(rowsOf(shares)).at(-1)?.status;
  expect(status([10, 10, 10, 10, 10, 10, 10])).toBe('normal');
  expect(status([10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 10.7])).toBe('normal');
  expect(status([10, 10, 10, 10, 10, 10, 10.29])).toBe('normal');
  expect(status([10, 10, 10, 10, 10, 10, 10.31])).toBe('anomaly');
});

test('a year is compared with the year before it only, never across a gap', () => {
  const rows = [...rowsOf([10, 20]), ...rowsOf([50, 60], 2005)];
  expect(windOf(rows).map(({ year, shareChangePp }) => [year, shareChangePp && Math.round(shareChangePp)])).toEqual([
    [2001, null],
    [2002, 10],
    [2005, null],
    [2006, 10],
  ]);
});

test('years are ordered whatever the order of the rows', () => {
  const rows = rowsOf([10, 12, 14]);
  expect(analyzeIowa(rows.toReversed()).readings.map(({ year }) => year)).toEqual([2001, 2001, 2002, 2002, 2003, 2003]);
});

test('a year that lacks a source is left out and named, and breaks the comparison', () => {
  const rows = rowsOf([10, 20, 30]).filter(([year, source]) => !(year === '2002-01-01' && source === 'Coal'));
  const { years, incompleteYears } = analyzeIowa(rows);
  expect(incompleteYears).toEqual([{ year: 2002, missing: 'Coal' }]);
  expect(years).toEqual([
    { year: 2001, total: 1000, totalGrowthPct: null },
    { year: 2003, total: 1000, totalGrowthPct: null },
  ]);
});

test('growth from nothing is no number', () => {
  const rows = [
    ['2001', 'Wind', '0'],
    ['2001', 'Coal', '5'],
    ['2002', 'Wind', '5'],
    ['2002', 'Coal', '5'],
  ];
  expect(windOf(rows).map(({ growthPct }) => growthPct)).toEqual([null, null]);
});

test.each([
  [['2001', 'Sun'], 'wrong number of fields'],
  [['MMI', 'Sun', '1'], 'year is not a year'],
  [['2001', ' ', '1'], 'source is empty'],
  [['2001', 'Sun', ''], 'net_generation is not a number'],
  [['2001', 'Sun', '-1'], 'net_generation is negative'],
  [['2001-01-01', 'Wind', '7'], 'second row for the same year and source'],
])('%j is skipped: %s', (row, reason) => {
  const { rows, sources } = analyzeIowa([['2001', 'Wind', '1'], row]);
  expect(rows).toMatchObject({ read: 2, used: 1, skipped: 1, skippedByReason: [{ reason, rows: 1 }] });
  expect(sources).toEqual(['Wind']);
});

test('without a complete year there is nothing to say', () => {
  expect(() => analyzeIowa([['x', 'y', 'z']])).toThrow('no complete year among 1 rows (1 skipped)');
  expect(() => analyzeIowa([['2001', 'Wind', '0']])).toThrow('no complete year');
});
