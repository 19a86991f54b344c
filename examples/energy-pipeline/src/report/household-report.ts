import { ANOMALY_BELOW, EFFICIENCY_DEFINITION, type HouseholdAnalysis } from '../analyzer/households.ts';
import { formatCsv } from '../csv.ts';
import type { Origin } from '../readings.ts';
import { cell, grouped, plural, rounded } from './numbers.ts';

export const HOUSEHOLD_COLUMNS = [
  'timestamp',
  'household_id',
  'power_consumption',
  'voltage',
  'current',
  'efficiency',
  'status',
];

/** The generator's columns, efficiency (6 decimals) and status. */
export function householdCsv({ readings }: HouseholdAnalysis): string {
  return formatCsv([
    HOUSEHOLD_COLUMNS,
    ...readings.map((reading) => [
      reading.timestamp,
      reading.household,
      String(reading.power),
      String(reading.voltage),
      String(reading.current),
      cell(reading.efficiency, 6),
      reading.status,
    ]),
  ]);
}

export function anomalyCount({ readings }: HouseholdAnalysis): number {
  return readings.filter((reading) => reading.status === 'anomaly').length;
}

/** The finding in one sentence, from the figures alone: it is the chart's title. */
export function householdFinding(analysis: HouseholdAnalysis): string {
  const { readings, households } = analysis;
  const anomalies = anomalyCount(analysis);
  const among = plural(readings.length, 'reading');
  if (anomalies === 0) return `None of ${among} is below the efficiency of ${ANOMALY_BELOW}`;
  const ranked = households.toSorted((a, b) => b.anomalies - a.anomalies);
  const [worst, second] = ranked;
  if (worst!.anomalies > 1 && worst!.anomalies * 4 >= anomalies && worst!.anomalies > (second?.anomalies ?? 0)) {
    return `${worst!.household} has ${grouped(worst!.anomalies)} of the ${plural(anomalies, 'anomaly', 'anomalies')} among ${among}`;
  }
  const affected = households.filter((household) => household.anomalies > 0).length;
  return `${plural(anomalies, 'anomaly', 'anomalies')} among ${among}, in ${plural(affected, 'household')}`;
}

export function householdSummary(
  analysis: HouseholdAnalysis,
  origin: Origin,
  files: { csv: string; chart: string },
): object {
  const { rows, readings, households } = analysis;
  const anomalies = anomalyCount(analysis);
  return {
    format: 'energy-report/1',
    dataset: 'household-readings',
    finding: householdFinding(analysis),
    origin,
    files,
    rows: {
      read: rows.read,
      used: rows.used,
      skipped: rows.skipped,
      skipped_by_reason: rows.skippedByReason,
      first_skipped: rows.firstSkipped,
    },
    anomaly_definition: { text: EFFICIENCY_DEFINITION, below: ANOMALY_BELOW },
    readings: readings.length,
    anomalies,
    anomaly_share_pct: rounded((100 * anomalies) / readings.length, 4),
    households: households.map((household) => ({
      household_id: household.household,
      readings: household.readings,
      anomalies: household.anomalies,
      median_efficiency: rounded(household.medianEfficiency, 6),
      min_efficiency: rounded(household.minEfficiency, 6),
    })),
  };
}
