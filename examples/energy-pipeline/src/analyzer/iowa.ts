import { parseNumber } from '../csv.ts';
import { StepError } from '../step.ts';
import { type RowCounts, RowLedger } from './bad-rows.ts';
import { robustBaseline } from './robust.ts';

/** A change is an anomaly beyond this many robust sigmas. The usual choice: see `ANOMALY_DEFINITION`. */
export const ANOMALY_SIGMAS = 3;
/** With fewer year-on-year changes there is no saying what is usual, and nothing is scored. */
export const MIN_CHANGES = 5;

/** Where most changes are alike the deviation is (nearly) 0, and any rounding would be an anomaly: so it is at least this. */
export const MIN_SIGMA_PP = 0.1;

export const ANOMALY_DEFINITION =
  `For each source, the change of its share against the year before (in percentage points) is compared with all such ` +
  `changes of that source. Score = (change - median) / sigma, where sigma = 1.4826 x median absolute deviation, at ` +
  `least ${MIN_SIGMA_PP} points. An anomaly is a change with |score| > ${ANOMALY_SIGMAS}. Median and MAD, because the ` +
  `anomalies themselves would move a mean and a standard deviation; ${ANOMALY_SIGMAS} is the customary cut-off (Leys et ` +
  `al. 2013). Sources with fewer than ${MIN_CHANGES} changes are not scored.`;

export type IowaStatus = 'normal' | 'anomaly' | 'not_scored';

/** One source in one year. Null where there is no year before, or (score) too few changes. */
export interface IowaReading {
  readonly year: number;
  readonly source: string;
  /** Net generation in thousand MWh. */
  readonly generation: number;
  /** Share of the year's total in percent. */
  readonly sharePct: number;
  /** Change of the share against the year before, in percentage points. */
  readonly shareChangePp: number | null;
  /** Growth of the generation against the year before, in percent; null also where the year before is 0. */
  readonly growthPct: number | null;
  readonly score: number | null;
  readonly status: IowaStatus;
}

export interface IowaYear {
  readonly year: number;
  /** Net generation of all sources in thousand MWh. */
  readonly total: number;
  readonly totalGrowthPct: number | null;
}

/** What is usual for a source: its baseline, and the changes between which nothing is an anomaly. */
export interface IowaBaseline {
  readonly source: string;
  readonly changes: number;
  readonly medianPp: number | null;
  readonly sigmaPp: number | null;
  readonly lowerPp: number | null;
  readonly upperPp: number | null;
}

export interface IowaAnalysis {
  readonly rows: RowCounts;
  /** In order of first appearance in the file. */
  readonly sources: readonly string[];
  readonly years: readonly IowaYear[];
  /** Ordered by year, then as `sources`. */
  readonly readings: readonly IowaReading[];
  readonly baselines: readonly IowaBaseline[];
  /** Years in which a source is missing: their shares would be wrong, so they are left out. */
  readonly incompleteYears: ReadonlyArray<{ readonly year: number; readonly missing: string }>;
}

/**
 * Shares, growth and anomalies of yearly generation by source.
 *
 * @param rows raw fields: year (2001 or 2001-01-01), source, net generation in thousand MWh
 * @throws StepError when not one complete year is left
 */
export function analyzeIowa(rows: readonly (readonly string[])[]): IowaAnalysis {
  const { years: byYear, sources, counts } = readRows(rows);
  const incompleteYears: { year: number; missing: string }[] = [];
  const complete: number[] = [];
  for (const year of [...byYear.keys()].sort((a, b) => a - b)) {
    const missing = sources.filter((source) => !byYear.get(year)!.has(source));
    if (missing.length > 0) incompleteYears.push({ year, missing: missing.join(', ') });
    else if (total(byYear.get(year)!) <= 0) incompleteYears.push({ year, missing: 'any generation (the total is 0)' });
    else complete.push(year);
  }
  if (complete.length === 0) {
    throw new StepError(`no complete year among ${counts.read} rows (${counts.skipped} skipped)`);
  }

  const share = (year: number, source: string) => (100 * byYear.get(year)!.get(source)!) / total(byYear.get(year)!);
  const known = new Set(complete);
  const changeOf = (year: number, source: string) =>
    known.has(year - 1) ? share(year, source) - share(year - 1, source) : null;

  const baselines = sources.map((source): IowaBaseline => {
    const changes = complete.map((year) => changeOf(year, source)).filter((change) => change !== null);
    if (changes.length < MIN_CHANGES) {
      return { source, changes: changes.length, medianPp: null, sigmaPp: null, lowerPp: null, upperPp: null };
    }
    const { median, sigma: measured } = robustBaseline(changes);
    const sigma = Math.max(MIN_SIGMA_PP, measured);
    const reach = ANOMALY_SIGMAS * sigma;
    return {
      source,
      changes: changes.length,
      medianPp: median,
      sigmaPp: sigma,
      lowerPp: median - reach,
      upperPp: median + reach,
    };
  });

  const readings = complete.flatMap((year) =>
    sources.map((source, at): IowaReading => {
      const { medianPp, sigmaPp } = baselines[at]!;
      const generation = byYear.get(year)!.get(source)!;
      const shareChangePp = changeOf(year, source);
      const score =
        shareChangePp === null || medianPp === null || sigmaPp === null ? null : (shareChangePp - medianPp) / sigmaPp;
      return {
        year,
        source,
        generation,
        sharePct: share(year, source),
        shareChangePp,
        growthPct: known.has(year - 1) ? growthPct(byYear.get(year - 1)!.get(source)!, generation) : null,
        score,
        status: score === null ? 'not_scored' : Math.abs(score) > ANOMALY_SIGMAS ? 'anomaly' : 'normal',
      };
    }),
  );
  const years = complete.map((year) => ({
    year,
    total: total(byYear.get(year)!),
    totalGrowthPct: known.has(year - 1) ? growthPct(total(byYear.get(year - 1)!), total(byYear.get(year)!)) : null,
  }));
  return { rows: counts, sources, years, readings, baselines, incompleteYears };
}

function total(bySource: ReadonlyMap<string, number>): number {
  let sum = 0;
  for (const generation of bySource.values()) sum += generation;
  return sum;
}

function growthPct(before: number, now: number): number | null {
  return before === 0 ? null : 100 * (now / before - 1);
}

function readRows(rows: readonly (readonly string[])[]) {
  const ledger = new RowLedger();
  const years = new Map<number, Map<string, number>>();
  const sources: string[] = [];
  for (const [at, row] of rows.entries()) {
    const refusal = reasonToSkip(row, years);
    if (refusal !== undefined) {
      ledger.skip(at + 1, refusal);
      continue;
    }
    ledger.use();
    const [yearText, sourceText, generationText] = row as [string, string, string];
    const year = parseYear(yearText)!;
    const source = sourceText.trim();
    if (!sources.includes(source)) sources.push(source);
    if (!years.has(year)) years.set(year, new Map());
    years.get(year)!.set(source, parseNumber(generationText)!);
  }
  return { years, sources, counts: ledger.counts() };
}

function reasonToSkip(row: readonly string[], seen: ReadonlyMap<number, ReadonlyMap<string, number>>) {
  if (row.length !== 3) return 'wrong number of fields';
  const [yearText, sourceText, generationText] = row as [string, string, string];
  const year = parseYear(yearText);
  if (year === undefined) return 'year is not a year';
  if (sourceText.trim() === '') return 'source is empty';
  const generation = parseNumber(generationText);
  if (generation === undefined) return 'net_generation is not a number';
  if (generation < 0) return 'net_generation is negative';
  if (seen.get(year)?.has(sourceText.trim())) return 'second row for the same year and source';
  return undefined;
}

/** 2001, or a date of that year. */
function parseYear(text: string): number | undefined {
  const match = /^(\d{4})(-\d\d-\d\d)?$/.exec(text.trim());
  return match ? Number(match[1]) : undefined;
}
