import { parseNumber } from '../csv.ts';
import { StepError } from '../step.ts';
import { type RowCounts, RowLedger } from './bad-rows.ts';
import { median } from './robust.ts';

/** A reading below this efficiency is an anomaly; one at it is not. */
export const ANOMALY_BELOW = 0.1;

export const EFFICIENCY_DEFINITION =
  'efficiency = power_consumption / (voltage x current): the part of the power drawn that is used. ' +
  `An anomaly is an efficiency below ${ANOMALY_BELOW}.`;

export interface HouseholdReading {
  readonly timestamp: string;
  readonly household: string;
  /** W */
  readonly power: number;
  /** V */
  readonly voltage: number;
  /** A */
  readonly current: number;
  readonly efficiency: number;
  readonly status: 'normal' | 'anomaly';
}

export interface HouseholdSummary {
  readonly household: string;
  readonly readings: number;
  readonly anomalies: number;
  readonly medianEfficiency: number;
  readonly minEfficiency: number;
}

export interface HouseholdAnalysis {
  readonly rows: RowCounts;
  /** In the order of the file. */
  readonly readings: readonly HouseholdReading[];
  /** Ordered by household id. */
  readonly households: readonly HouseholdSummary[];
}

/**
 * Efficiency and status of each reading.
 *
 * @param rows raw fields: timestamp (ISO 8601), household_id, power_consumption in W, voltage in V, current in A
 * @throws StepError when not one reading is left
 */
export function analyzeHouseholds(rows: readonly (readonly string[])[]): HouseholdAnalysis {
  const ledger = new RowLedger();
  const seen = new Set<string>();
  const readings: HouseholdReading[] = [];
  for (const [at, row] of rows.entries()) {
    const result = readRow(row);
    const key = typeof result === 'string' ? '' : JSON.stringify([result.timestamp, result.household]);
    if (typeof result === 'string') ledger.skip(at + 1, result);
    else if (seen.has(key)) ledger.skip(at + 1, 'second reading of a household at the same time');
    else {
      seen.add(key);
      ledger.use();
      readings.push(result);
    }
  }
  const counts = ledger.counts();
  if (readings.length === 0) {
    const reasons = counts.skippedByReason.map(({ reason, rows }) => `${rows} × ${reason}`).join(', ');
    throw new StepError(`no usable reading among ${counts.read} rows${reasons && ` (${reasons})`}`);
  }
  return { rows: counts, readings, households: summarize(readings) };
}

/** The reading, or why it is skipped. */
function readRow(row: readonly string[]): HouseholdReading | string {
  if (row.length !== 5) return 'wrong number of fields';
  const [timestamp, household, powerText, voltageText, currentText] = row.map((cell) => cell.trim()) as [
    string,
    string,
    string,
    string,
    string,
  ];
  if (!isTimestamp(timestamp)) return 'timestamp is not a time';
  if (household === '') return 'household_id is empty';
  const power = parseNumber(powerText);
  if (power === undefined) return 'power_consumption is not a number';
  if (power < 0) return 'power_consumption is negative';
  const voltage = parseNumber(voltageText);
  if (voltage === undefined) return 'voltage is not a number';
  if (voltage <= 0) return 'voltage is not above 0';
  const current = parseNumber(currentText);
  if (current === undefined) return 'current is not a number';
  if (current <= 0) return 'current is not above 0';
  const efficiency = power / (voltage * current);
  if (!Number.isFinite(efficiency)) return 'efficiency is not finite';
  const status = efficiency < ANOMALY_BELOW ? 'anomaly' : 'normal';
  return { timestamp, household, power, voltage, current, efficiency, status };
}

/** An ISO 8601 date with a time; a day that the month does not have is refused (Date.parse would roll it over). */
function isTimestamp(text: string): boolean {
  const match = /^(\d{4})-(\d\d)-(\d\d)[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/.exec(text);
  if (match === null || Number.isNaN(Date.parse(text))) return false;
  const [year, month, day] = match.slice(1, 4).map(Number) as [number, number, number];
  return new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day;
}

function summarize(readings: readonly HouseholdReading[]): HouseholdSummary[] {
  const byHousehold = Map.groupBy(readings, (reading) => reading.household);
  return [...byHousehold]
    .map(([household, own]) => {
      const efficiencies = own.map((reading) => reading.efficiency);
      return {
        household,
        readings: own.length,
        anomalies: own.filter((reading) => reading.status === 'anomaly').length,
        medianEfficiency: median(efficiencies),
        minEfficiency: efficiencies.reduce((least, value) => Math.min(least, value)),
      };
    })
    .sort((a, b) => (a.household < b.household ? -1 : 1));
}
