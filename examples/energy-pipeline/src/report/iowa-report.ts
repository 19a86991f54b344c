import {
  ANOMALY_DEFINITION,
  ANOMALY_SIGMAS,
  type IowaAnalysis,
  type IowaReading,
  MIN_CHANGES,
  MIN_SIGMA_PP,
} from '../analyzer/iowa.ts';
import { formatCsv } from '../csv.ts';
import type { Origin } from '../readings.ts';
import { cell, percent, rounded } from './numbers.ts';

/** Other cut-offs people use, so that a reader sees how much the finding hangs on ours. */
const OTHER_CUTOFFS = [2.5, ANOMALY_SIGMAS, 3.5];

export const IOWA_COLUMNS = [
  'year',
  'source',
  'net_generation_thousand_mwh',
  'share_pct',
  'share_change_pp',
  'growth_pct',
  'total_thousand_mwh',
  'total_growth_pct',
  'robust_score',
  'status',
];

/** One row per year and source. Percentages and points have 4 decimals; an empty cell means "no year before". */
export function iowaCsv({ readings, years }: IowaAnalysis): string {
  const byYear = new Map(years.map((year) => [year.year, year]));
  return formatCsv([
    IOWA_COLUMNS,
    ...readings.map((reading) => [
      String(reading.year),
      reading.source,
      String(reading.generation),
      cell(reading.sharePct, 4),
      cell(reading.shareChangePp, 4),
      cell(reading.growthPct, 4),
      String(byYear.get(reading.year)?.total ?? ''),
      cell(byYear.get(reading.year)?.totalGrowthPct ?? null, 4),
      cell(reading.score, 4),
      reading.status,
    ]),
  ]);
}

/** How a source's share went from the first year to the last. */
export interface SourceTrend {
  readonly source: string;
  readonly first: IowaReading;
  readonly last: IowaReading;
  readonly changePp: number;
}

/** By change of share, the largest gain first; equal changes in the order of the file. */
export function trends({ sources, readings }: IowaAnalysis): SourceTrend[] {
  return sources
    .map((source) => {
      const own = readings.filter((reading) => reading.source === source);
      const first = own[0]!;
      const last = own[own.length - 1]!;
      return { source, first, last, changePp: last.sharePct - first.sharePct };
    })
    .sort((a, b) => b.changePp - a.changePp);
}

/** The finding in one sentence, from the figures alone: it is the chart's title. */
export function iowaFinding(analysis: IowaAnalysis, place: string | null): string {
  const ordered = trends(analysis);
  const { source, first, last, changePp } = ordered[0]!;
  const of = place === null ? 'of generation' : `of ${place}’s electricity`;
  if (first.year === last.year) {
    const largest = ordered.reduce((a, b) => (b.last.sharePct > a.last.sharePct ? b : a));
    return `${largest.source} made ${percent(largest.last.sharePct)} ${of} in ${last.year}`;
  }
  const span = `${first.year}–${last.year}`;
  const [from, to] = [percent(first.sharePct), percent(last.sharePct)];
  if (changePp < 0.05 || from === to) return `The shares ${of} by source hardly changed, ${span}`;
  return `${source} grew from ${from} to ${to} ${of}, ${span}`;
}

export function iowaSummary(analysis: IowaAnalysis, origin: Origin, files: { csv: string; chart: string }): object {
  const { rows, years, readings, baselines, incompleteYears } = analysis;
  const first = years[0]!;
  const last = years[years.length - 1]!;
  const scored = readings.filter((reading) => reading.score !== null);
  return {
    format: 'energy-report/1',
    dataset: 'iowa-electricity',
    finding: iowaFinding(analysis, origin.place),
    origin,
    files,
    rows: {
      read: rows.read,
      used: rows.used,
      skipped: rows.skipped,
      skipped_by_reason: rows.skippedByReason,
      first_skipped: rows.firstSkipped,
    },
    incomplete_years: incompleteYears,
    period: {
      first_year: first.year,
      last_year: last.year,
      total_first_thousand_mwh: first.total,
      total_last_thousand_mwh: last.total,
      total_growth_pct: first.total === 0 ? null : rounded(100 * (last.total / first.total - 1), 4),
    },
    sources: trends(analysis).map(({ source, first, last, changePp }) => ({
      source,
      share_first_pct: rounded(first.sharePct, 4),
      share_last_pct: rounded(last.sharePct, 4),
      share_change_pp: rounded(changePp, 4),
      generation_first_thousand_mwh: first.generation,
      generation_last_thousand_mwh: last.generation,
      generation_growth_pct: first.generation === 0 ? null : rounded(100 * (last.generation / first.generation - 1), 4),
    })),
    years: years.map(({ year, total, totalGrowthPct }) => ({
      year,
      total_thousand_mwh: total,
      total_growth_pct: rounded(totalGrowthPct, 4),
    })),
    anomaly_definition: {
      text: ANOMALY_DEFINITION,
      score: '(change - median) / sigma, change of share in percentage points against the year before',
      sigma: '1.4826 x median absolute deviation',
      min_sigma_pp: MIN_SIGMA_PP,
      cutoff: ANOMALY_SIGMAS,
      min_changes: MIN_CHANGES,
      baselines: baselines.map((baseline) => ({
        source: baseline.source,
        changes: baseline.changes,
        median_pp: rounded(baseline.medianPp, 4),
        robust_sigma_pp: rounded(baseline.sigmaPp, 4),
        normal_from_pp: rounded(baseline.lowerPp, 4),
        normal_to_pp: rounded(baseline.upperPp, 4),
      })),
      anomalies_at_other_cutoffs: OTHER_CUTOFFS.map((cutoff) => ({
        cutoff,
        anomalies: scored.filter((reading) => Math.abs(reading.score!) > cutoff).length,
      })),
    },
    anomalies: readings
      .filter((reading) => reading.status === 'anomaly')
      .map((reading) => ({
        year: reading.year,
        source: reading.source,
        share_pct: rounded(reading.sharePct, 4),
        share_change_pp: rounded(reading.shareChangePp, 4),
        growth_pct: rounded(reading.growthPct, 4),
        robust_score: rounded(reading.score, 4),
      })),
  };
}
