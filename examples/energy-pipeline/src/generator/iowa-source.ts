import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { readInput } from '../files.ts';
import { Field } from '../json.ts';
import { type Readings, readingsFromCsv } from '../readings.ts';
import { StepError } from '../step.ts';

const PACKAGE = 'vega-datasets';
const CSV = 'data/iowa-electricity.csv';

/** The directory of the installed package. Its exports hide data/, so it is found from its entry point upward. */
export function vegaDatasetsDirectory(): string {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(PACKAGE)));
  } catch {
    throw new StepError(`the npm package "${PACKAGE}" is not installed; "npm install" brings it`);
  }
}

/** Reads Iowa's electricity generation, with source and licence as the package's own catalogue states them. */
export async function readIowa(): Promise<Readings> {
  const directory = vegaDatasetsDirectory();
  const csv = await readInput(join(directory, CSV));
  const version = Field.parse((await readInput(join(directory, 'package.json'))).text)
    .at('version')
    .string();
  const entry = Field.parse((await readInput(join(directory, 'datapackage.json'))).text)
    .at('resources')
    .list()
    .find((resource) => resource.at('path').value === 'iowa-electricity.csv');
  if (entry === undefined) throw new StepError(`${PACKAGE} ${version} has no entry for ${CSV} in its datapackage.json`);
  const titles = (key: string) => entry.at(key).list();
  return readingsFromCsv(csv.text, {
    description: entry.at('description').string().replaceAll(/\s+/g, ' ').trim(),
    source: `${titles('sources')
      .map((source) => source.at('title').string())
      .join(', ')}; npm ${PACKAGE} ${version}, ${CSV}`,
    licence: titles('licenses')
      .map((licence) => `${licence.at('title').string()} (${licence.at('path').string()})`)
      .join(', '),
    place: 'Iowa',
    sha256: csv.sha256,
    synthetic: false,
  });
}
