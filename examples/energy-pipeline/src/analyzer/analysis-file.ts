import { Field, formatJson } from '../json.ts';
import { type Origin, parseOrigin } from '../readings.ts';
import { StepError } from '../step.ts';
import type { RowCounts } from './bad-rows.ts';
import { EFFICIENCY_DEFINITION, type HouseholdAnalysis } from './households.ts';
import { ANOMALY_DEFINITION, type IowaAnalysis } from './iowa.ts';

const FORMAT = 'energy-analysis/1';

/** What the analyzer hands to the reporter. */
export type Analysis =
  | { readonly dataset: 'iowa-electricity'; readonly origin: Origin; readonly result: IowaAnalysis }
  | { readonly dataset: 'household-readings'; readonly origin: Origin; readonly result: HouseholdAnalysis };

/** Numbers are kept at full precision; the report rounds. */
export function formatAnalysis({ dataset, origin, result }: Analysis): string {
  const definition = dataset === 'iowa-electricity' ? ANOMALY_DEFINITION : EFFICIENCY_DEFINITION;
  return formatJson({ format: FORMAT, dataset, origin, definition, ...result });
}

/** @throws StepError that names the first field which is not as it must be */
export function parseAnalysis(text: string): Analysis {
  const file = Field.parse(text);
  file.at('format').oneOf(FORMAT);
  const dataset = file.at('dataset').oneOf('iowa-electricity', 'household-readings');
  const origin = parseOrigin(file.at('origin'));
  const rows = parseCounts(file.at('rows'));
  if (file.at('readings').list().length === 0) throw new StepError('readings is empty: there is nothing to report');
  return dataset === 'iowa-electricity'
    ? { dataset, origin, result: { rows, ...parseIowa(file) } }
    : { dataset, origin, result: { rows, ...parseHouseholds(file) } };
}

const numberOrNull = (field: Field) => field.orNull((value) => value.number());

function parseCounts(rows: Field): RowCounts {
  return {
    read: rows.at('read').number(),
    used: rows.at('used').number(),
    skipped: rows.at('skipped').number(),
    skippedByReason: rows
      .at('skippedByReason')
      .list()
      .map((item) => ({ reason: item.at('reason').string(), rows: item.at('rows').number() })),
    firstSkipped: rows
      .at('firstSkipped')
      .list()
      .map((item) => ({ row: item.at('row').number(), reason: item.at('reason').string() })),
  };
}

function parseIowa(file: Field): Omit<IowaAnalysis, 'rows'> {
  const list = (key: string) => file.at(key).list();
  const [sources, years, readings] = [list('sources').length, list('years').length, list('readings').length];
  if (readings !== sources * years) {
    throw new StepError(
      `readings has ${readings} items, but ${sources} sources in ${years} years make ${sources * years}`,
    );
  }
  return {
    sources: list('sources').map((source) => source.string()),
    years: list('years').map((item) => ({
      year: item.at('year').number(),
      total: item.at('total').number(),
      totalGrowthPct: numberOrNull(item.at('totalGrowthPct')),
    })),
    readings: list('readings').map((item) => ({
      year: item.at('year').number(),
      source: item.at('source').string(),
      generation: item.at('generation').number(),
      sharePct: item.at('sharePct').number(),
      shareChangePp: numberOrNull(item.at('shareChangePp')),
      growthPct: numberOrNull(item.at('growthPct')),
      score: numberOrNull(item.at('score')),
      status: item.at('status').oneOf('normal', 'anomaly', 'not_scored'),
    })),
    baselines: list('baselines').map((item) => ({
      source: item.at('source').string(),
      changes: item.at('changes').number(),
      medianPp: numberOrNull(item.at('medianPp')),
      sigmaPp: numberOrNull(item.at('sigmaPp')),
      lowerPp: numberOrNull(item.at('lowerPp')),
      upperPp: numberOrNull(item.at('upperPp')),
    })),
    incompleteYears: list('incompleteYears').map((item) => ({
      year: item.at('year').number(),
      missing: item.at('missing').string(),
    })),
  };
}

function parseHouseholds(file: Field): Omit<HouseholdAnalysis, 'rows'> {
  return {
    readings: file
      .at('readings')
      .list()
      .map((item) => ({
        timestamp: item.at('timestamp').string(),
        household: item.at('household').string(),
        power: item.at('power').number(),
        voltage: item.at('voltage').number(),
        current: item.at('current').number(),
        efficiency: item.at('efficiency').number(),
        status: item.at('status').oneOf('normal', 'anomaly'),
      })),
    households: file
      .at('households')
      .list()
      .map((item) => ({
        household: item.at('household').string(),
        readings: item.at('readings').number(),
        anomalies: item.at('anomalies').number(),
        medianEfficiency: item.at('medianEfficiency').number(),
        minEfficiency: item.at('minEfficiency').number(),
      })),
  };
}
