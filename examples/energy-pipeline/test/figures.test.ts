/**
 * Recomputes every figure of the Iowa report from the CSV in the npm package. Nothing of the analyzer or the report is
 * imported but the step functions that are being examined: reading, shares, growth, median and MAD are written again here.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { analyze } from '../src/analyzer/step.ts';
import { generate } from '../src/generator/step.ts';
import { report } from '../src/report/step.ts';

const source = join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '../data/iowa-electricity.csv');
/** generation[source][year], in thousand MWh. */
const generation: Record<string, Record<number, number>> = {};
for (const line of readFileSync(source, 'utf8').trim().split('\n').slice(1)) {
  const [date, name, value] = line.trim().split(',');
  generation[name!] ??= {};
  generation[name!]![Number(date!.slice(0, 4))] = Number(value);
}
const names = Object.keys(generation);
const years = Array.from({ length: 17 }, (_, i) => 2001 + i);

const totalOf = (year: number) => names.reduce((sum, name) => sum + generation[name]![year]!, 0);
const shareOf = (name: string, year: number) => (generation[name]![year]! / totalOf(year)) * 100;
const changeOf = (name: string, year: number) => shareOf(name, year) - shareOf(name, year - 1);
const growthOf = (now: number, before: number) => ((now - before) / before) * 100;
/** By counting, not by sorting: the mean of the two values with half of the others on either side. */
function medianOf(values: number[]): number {
  const rank = (value: number) => values.filter((other) => other < value).length;
  const ranked = [...values].sort((a, b) => rank(a) - rank(b));
  const half = values.length / 2;
  return Number.isInteger(half) ? (ranked[half - 1]! + ranked[half]!) / 2 : ranked[Math.floor(half)]!;
}
const baselineOf = (name: string) => {
  const changes = years.slice(1).map((year) => changeOf(name, year));
  const middle = medianOf(changes);
  return { middle, sigma: 1.4826 * medianOf(changes.map((change) => Math.abs(change - middle))) };
};
const scoreOf = (name: string, year: number) =>
  (changeOf(name, year) - baselineOf(name).middle) / baselineOf(name).sigma;

let directory: string;
let rows: Record<string, string>[];
// biome-ignore lint/suspicious/noExplicitAny: the file under test; each field is compared below
let summary: any;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'energy-figures-'));
  const file = (name: string) => join(directory, name);
  const now = async () => {};
  const spec = new URL('../data/iowa.json', import.meta.url).pathname;
  await generate({ inputFile: spec, outputFile: file('output1.json') }, now);
  await analyze({ inputFile: file('output1.json'), outputFile: file('output2.json') }, now);
  await report({ inputFile: file('output2.json'), outputFile: file('final.csv') }, now);
  const [header, ...lines] = readFileSync(file('final.csv'), 'utf8').trimEnd().split('\n');
  const columns = header!.split(',');
  rows = lines.map((line) => Object.fromEntries(line.split(',').map((value, i) => [columns[i]!, value])));
  summary = JSON.parse(readFileSync(file('final.summary.json'), 'utf8'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test('the source is what this test believes it to be', () => {
  expect(names).toEqual(['Fossil Fuels', 'Nuclear Energy', 'Renewables']);
  expect(names.flatMap((name) => years.map((year) => generation[name]![year])).every(Number.isInteger)).toBe(true);
  expect(totalOf(2001)).toBe(35361 + 3853 + 1437);
});

describe('the final CSV', () => {
  test('has each year and source once', () => {
    expect(rows.map((row) => `${row.year} ${row.source}`)).toEqual(
      years.flatMap((year) => names.map((name) => `${year} ${name}`)),
    );
  });

  test('has every figure right to its four decimals', () => {
    for (const row of rows) {
      const year = Number(row.year);
      const name = row.source!;
      const first = year === 2001;
      const expected: Record<string, number | undefined> = {
        net_generation_thousand_mwh: generation[name]![year],
        share_pct: shareOf(name, year),
        share_change_pp: first ? undefined : changeOf(name, year),
        growth_pct: first ? undefined : growthOf(generation[name]![year]!, generation[name]![year - 1]!),
        total_thousand_mwh: totalOf(year),
        total_growth_pct: first ? undefined : growthOf(totalOf(year), totalOf(year - 1)),
        robust_score: first ? undefined : scoreOf(name, year),
      };
      for (const [column, value] of Object.entries(expected)) {
        const at = `${year} ${name} ${column}`;
        if (value === undefined) expect(row[column], at).toBe('');
        else expect(Math.abs(Number(row[column]) - value), at).toBeLessThanOrEqual(0.5e-4 + 1e-9);
      }
    }
  });

  test('marks exactly the changes beyond 3 robust sigmas', () => {
    for (const row of rows) {
      const score = row.year === '2001' ? undefined : scoreOf(row.source!, Number(row.year));
      const expected = score === undefined ? 'not_scored' : Math.abs(score) > 3 ? 'anomaly' : 'normal';
      expect(row.status, `${row.year} ${row.source}`).toBe(expected);
    }
    expect(rows.filter((row) => row.status === 'anomaly').map((row) => `${row.year} ${row.source}`)).toEqual([
      '2009 Renewables',
    ]);
  });

  test('shares of a year add up to 100', () => {
    for (const year of years) {
      const shares = rows.filter((row) => row.year === String(year)).map((row) => Number(row.share_pct));
      expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(100, 3);
    }
  });
});

describe('the JSON summary', () => {
  const near = (value: number) => expect.closeTo(value, 4);

  test('states the finding, and where the data comes from', () => {
    const [from, to] = [shareOf('Renewables', 2001), shareOf('Renewables', 2017)].map((share) => share.toFixed(0));
    expect(summary.finding).toBe(`Renewables grew from ${from}% to ${to}% of Iowa’s electricity, 2001–2017`);
    expect(summary.origin).toMatchObject({ place: 'Iowa', synthetic: false });
    expect(summary.origin.source).toContain('U.S. Energy Information Administration');
    expect(summary.files).toEqual({ csv: 'final.csv', chart: 'final.svg' });
    expect(summary.rows).toMatchObject({ read: 51, used: 51, skipped: 0 });
  });

  test('has the totals and their growth', () => {
    expect(summary.period).toEqual({
      first_year: 2001,
      last_year: 2017,
      total_first_thousand_mwh: totalOf(2001),
      total_last_thousand_mwh: totalOf(2017),
      total_growth_pct: near(growthOf(totalOf(2017), totalOf(2001))),
    });
    expect(summary.years).toEqual(
      years.map((year) => ({
        year,
        total_thousand_mwh: totalOf(year),
        total_growth_pct: year === 2001 ? null : near(growthOf(totalOf(year), totalOf(year - 1))),
      })),
    );
  });

  test('has each source from first year to last', () => {
    const gain = (name: string) => shareOf(name, 2017) - shareOf(name, 2001);
    expect(summary.sources).toEqual(
      [...names]
        .sort((a, b) => gain(b) - gain(a))
        .map((name) => ({
          source: name,
          share_first_pct: near(shareOf(name, 2001)),
          share_last_pct: near(shareOf(name, 2017)),
          share_change_pp: near(gain(name)),
          generation_first_thousand_mwh: generation[name]![2001],
          generation_last_thousand_mwh: generation[name]![2017],
          generation_growth_pct: near(growthOf(generation[name]![2017]!, generation[name]![2001]!)),
        })),
    );
  });

  test('defines its anomalies in words and numbers, and lists them', () => {
    expect(summary.anomaly_definition).toMatchObject({ cutoff: 3, min_changes: 5 });
    expect(summary.anomaly_definition.text).toContain('median absolute deviation');
    expect(summary.anomaly_definition.baselines).toEqual(
      names.map((name) => {
        const { middle, sigma } = baselineOf(name);
        return {
          source: name,
          changes: 16,
          median_pp: near(middle),
          robust_sigma_pp: near(sigma),
          normal_from_pp: near(middle - 3 * sigma),
          normal_to_pp: near(middle + 3 * sigma),
        };
      }),
    );
    const scores = names.flatMap((name) => years.slice(1).map((year) => Math.abs(scoreOf(name, year))));
    expect(summary.anomaly_definition.anomalies_at_other_cutoffs).toEqual(
      [2.5, 3, 3.5].map((cutoff) => ({ cutoff, anomalies: scores.filter((score) => score > cutoff).length })),
    );
    expect(summary.anomalies).toEqual([
      {
        year: 2009,
        source: 'Renewables',
        share_pct: near(shareOf('Renewables', 2009)),
        share_change_pp: near(changeOf('Renewables', 2009)),
        growth_pct: near(growthOf(8560, 5070)),
        robust_score: near(scoreOf('Renewables', 2009)),
      },
    ]);
  });
});
