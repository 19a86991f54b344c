import { formatCsv, parseCsv } from './csv.ts';
import { Field, formatJson } from './json.ts';
import { StepError } from './step.ts';

/** The two kinds of rows the pipeline knows, told apart by their header. */
export const DATASETS = {
  'household-readings': ['timestamp', 'household_id', 'power_consumption', 'voltage', 'current'],
  'iowa-electricity': ['year', 'source', 'net_generation'],
} as const;

export type Dataset = keyof typeof DATASETS;

/** Where rows come from: carried along to the report, so that the chart can name its source. */
export interface Origin {
  readonly description: string;
  readonly source: string;
  readonly licence: string | null;
  /** What the rows are about, for titles: "Iowa". Null when the file does not say. */
  readonly place: string | null;
  /** SHA-256 of the file that was read, in hex; null for rows that were made up. */
  readonly sha256: string | null;
  readonly synthetic: boolean;
}

/** Rows on their way from generator to analyzer: raw text, bad rows included, nothing interpreted yet. */
export interface Readings {
  readonly dataset: Dataset;
  readonly origin: Origin;
  readonly rows: readonly (readonly string[])[];
}

const FORMAT = 'energy-readings/1';

/**
 * The columns of each row are put in the order of `DATASETS`, whatever their order in the file; other columns are dropped.
 * A row with another number of fields than the header keeps them all, and so can be recognized as bad.
 */
export function readingsFromCsv(text: string, origin: Origin): Readings {
  const [header, ...rows] = parseCsv(text);
  if (header === undefined) throw new StepError('it is empty: a CSV header was expected');
  const names = header.map((name) => name.trim());
  for (const dataset of Object.keys(DATASETS) as Dataset[]) {
    const positions = DATASETS[dataset].map((column) => names.indexOf(column));
    if (positions.includes(-1)) continue;
    const pick = (row: string[]) => (row.length === names.length ? positions.map((at) => row[at] ?? '') : row);
    // A row of the wrong length could by chance have the right number of fields once columns are dropped: mark it.
    const mark = (row: string[]) => (row.length === positions.length ? [...row, ''] : row);
    return { dataset, origin, rows: rows.map((row) => (row.length === names.length ? pick(row) : mark(row))) };
  }
  const known = Object.values(DATASETS).map((columns) => columns.join(','));
  throw new StepError(`its header is "${header.join(',').slice(0, 200)}"; known are "${known.join('" and "')}"`);
}

/** As CSV (rows only), or as JSON that carries the origin too. */
export function formatReadings(readings: Readings, as: 'csv' | 'json'): string {
  const columns = DATASETS[readings.dataset];
  if (as === 'csv') return formatCsv([columns, ...readings.rows]);
  const { dataset, origin, rows } = readings;
  return formatJson({ format: FORMAT, dataset, origin, columns, rows });
}

/** Reads either form. `origin` is used for CSV, which cannot say where it comes from. */
export function parseReadings(text: string, origin: Origin): Readings {
  if (!/^\s*[[{]/.test(text)) return readingsFromCsv(text, origin);
  const file = Field.parse(text);
  file.at('format').oneOf(FORMAT);
  const dataset = file.at('dataset').oneOf('household-readings', 'iowa-electricity');
  const columns = file
    .at('columns')
    .list()
    .map((name) => name.string());
  if (columns.join() !== DATASETS[dataset].join()) {
    throw new StepError(`columns are "${columns.join()}", but "${dataset}" has "${DATASETS[dataset].join()}"`);
  }
  const rows = file.at('rows').list();
  return {
    dataset,
    origin: parseOrigin(file.at('origin')),
    rows: rows.map((row) => row.list().map((cell) => cell.string())),
  };
}

export function parseOrigin(origin: Field): Origin {
  return {
    description: origin.at('description').string(),
    source: origin.at('source').string(),
    licence: origin.at('licence').orNull((field) => field.string()),
    place: origin.at('place').orNull((field) => field.string()),
    sha256: origin.at('sha256').orNull((field) => field.string()),
    synthetic: origin.at('synthetic').boolean(),
  };
}
