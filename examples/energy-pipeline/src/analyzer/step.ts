import { basename } from 'node:path';
import { checkOutput, type InputFile, readInput, writeAtomically } from '../files.ts';
import { parseReadings } from '../readings.ts';
import { type Step, StepError } from '../step.ts';
import { type Analysis, formatAnalysis } from './analysis-file.ts';
import { analyzeHouseholds } from './households.ts';
import { analyzeIowa } from './iowa.ts';

/** Reads what the generator wrote (or a CSV of either kind), skips bad rows, and writes the analysis as JSON. */
export const analyze: Step = async ({ inputFile, outputFile }, beforeWrite) => {
  checkOutput(inputFile, [outputFile]);
  const analysis = analyzeFile(await readInput(inputFile));
  await beforeWrite();
  await writeAtomically(outputFile, formatAnalysis(analysis));
  const { rows, readings } = analysis.result;
  const anomalies = readings.filter(({ status }) => status === 'anomaly').length;
  return (
    `analyzed ${rows.used} of ${rows.read} rows of ${analysis.dataset} ` +
    `(${rows.skipped} skipped), ${anomalies} anomal${anomalies === 1 ? 'y' : 'ies'}; wrote ${outputFile}`
  );
};

function analyzeFile(file: InputFile): Analysis {
  try {
    const name = basename(file.path);
    const { dataset, origin, rows } = parseReadings(file.text, {
      description: `The rows of ${name}`,
      source: name,
      licence: null,
      place: null,
      sha256: file.sha256,
      synthetic: false,
    });
    return dataset === 'iowa-electricity'
      ? { dataset, origin, result: analyzeIowa(rows) }
      : { dataset, origin, result: analyzeHouseholds(rows) };
  } catch (error) {
    if (error instanceof StepError) throw new StepError(`input file "${file.path}": ${error.message}`);
    throw error;
  }
}
