import { expect, test } from 'vitest';
import type { Origin } from '../readings.ts';
import { formatAnalysis, parseAnalysis } from './analysis-file.ts';
import { analyzeHouseholds } from './households.ts';
import { analyzeIowa } from './iowa.ts';

const origin: Origin = { description: 'd', source: 's', licence: 'l', place: 'Iowa', sha256: null, synthetic: true };
const iowa = formatAnalysis({
  dataset: 'iowa-electricity',
  origin,
  result: analyzeIowa([['2001', 'Wind', '3'], ['2001', 'Coal', '4'], ['bad']]),
});

test('what is written is read back, numbers at full precision', () => {
  const analysis = parseAnalysis(iowa);
  expect(analysis.result).toEqual(analyzeIowa([['2001', 'Wind', '3'], ['2001', 'Coal', '4'], ['bad']]));
  expect(analysis.origin).toEqual(origin);

  const homes = analyzeHouseholds([['2026-01-05T00:00:00Z', '"<H>"', '100', '230', '0.7']]);
  expect(parseAnalysis(formatAnalysis({ dataset: 'household-readings', origin, result: homes })).result).toEqual(homes);
});

test('the definition of an anomaly stands in the file', () => {
  expect(JSON.parse(iowa).definition).toContain('|score| > 3');
});

/** Parsed JSON, to be broken on purpose. */
// biome-ignore lint/suspicious/noExplicitAny: each case breaks another shape
type Loose = Record<string, any>;

test.each<[string, (file: Loose) => void, string]>([
  ['another format', (file) => (file.format = 'x'), 'format must be "energy-analysis/1", but is "x"'],
  ['no rows', (file) => delete file.rows, 'rows must be an object, but is missing'],
  [
    'a text for a number',
    (file) => (file.readings[1].sharePct = '9'),
    'readings[1].sharePct must be a number, but is "9"',
  ],
  ['an unknown status', (file) => (file.readings[0].status = 'odd'), 'readings[0].status must be'],
  ['a missing null', (file) => delete file.readings[0].score, 'readings[0].score must be a number, but is missing'],
  ['no readings', (file) => (file.readings = []), 'readings is empty'],
  ['a missing reading', (file) => file.readings.pop(), 'readings has 1 items, but 2 sources in 1 years make 2'],
])('%s is refused at its place', (_, change, message) => {
  const file = JSON.parse(iowa);
  change(file);
  expect(() => parseAnalysis(JSON.stringify(file))).toThrow(message);
});
