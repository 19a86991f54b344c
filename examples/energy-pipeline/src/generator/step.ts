import { basename, extname } from 'node:path';
import { checkOutput, type InputFile, readInput, writeAtomically } from '../files.ts';
import { formatReadings, type Readings, readingsFromCsv } from '../readings.ts';
import { type Step, StepError } from '../step.ts';
import { makeHouseholds } from './households.ts';
import { readIowa } from './iowa-source.ts';
import { DEFAULT_SPEC, parseSpec, type Spec } from './spec.ts';

/**
 * Makes or fetches readings. `input_file` is empty (households by default), a JSON file that says what to make, or a CSV
 * file of either kind. Writes CSV, or, where `output_file` ends in .json, JSON that also carries the origin.
 */
export const generate: Step = async ({ inputFile, outputFile }, beforeWrite) => {
  checkOutput(inputFile, [outputFile]);
  const readings = inputFile === '' ? await make(DEFAULT_SPEC) : await fromFile(await readInput(inputFile));
  await beforeWrite();
  await writeAtomically(outputFile, formatReadings(readings, extname(outputFile) === '.json' ? 'json' : 'csv'));
  return `wrote ${readings.rows.length} rows of ${readings.dataset} to ${outputFile} (${readings.origin.source})`;
};

async function make(spec: Spec): Promise<Readings> {
  return spec.source === 'households' ? makeHouseholds(spec) : await readIowa();
}

async function fromFile(file: InputFile): Promise<Readings> {
  try {
    if (/^\s*[[{]/.test(file.text)) return await make(parseSpec(file.text));
    const name = basename(file.path);
    return readingsFromCsv(file.text, {
      description: `The rows of ${name}`,
      source: name,
      licence: null,
      place: null,
      sha256: file.sha256,
      synthetic: false,
    });
  } catch (error) {
    if (error instanceof StepError) throw new StepError(`input file "${file.path}": ${error.message}`);
    throw error;
  }
}
