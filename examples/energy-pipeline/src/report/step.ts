import { basename, extname } from 'node:path';
import { type Analysis, parseAnalysis } from '../analyzer/analysis-file.ts';
import { checkOutput, type InputFile, readInput, writeAtomically } from '../files.ts';
import { formatJson } from '../json.ts';
import { type Step, StepError } from '../step.ts';
import { householdChart } from './household-chart.ts';
import { householdCsv, householdFinding, householdSummary } from './household-report.ts';
import { iowaChart } from './iowa-chart.ts';
import { iowaCsv, iowaFinding, iowaSummary } from './iowa-report.ts';

/** The three files of a report. A call names only the CSV; the others lie beside it: final.csv, final.summary.json, final.svg. */
export function reportFiles(outputFile: string): { csv: string; summary: string; chart: string } {
  const extension = extname(outputFile);
  const stem = extension === '' ? outputFile : outputFile.slice(0, -extension.length);
  if (['.svg', '.json'].includes(extension.toLowerCase())) {
    throw new StepError(`output_file "${outputFile}" is for the CSV; the summary and the chart are named after it`);
  }
  return { csv: outputFile, summary: `${stem}.summary.json`, chart: `${stem}.svg` };
}

/** Reads an analysis and writes CSV, JSON summary and SVG chart. The CSV comes last: where it is, all three are. */
export const report: Step = async ({ inputFile, outputFile }, beforeWrite) => {
  checkOutput(inputFile, [outputFile]);
  const files = reportFiles(outputFile);
  checkOutput(inputFile, Object.values(files));
  const analysis = readAnalysis(await readInput(inputFile));
  const names = { csv: basename(files.csv), chart: basename(files.chart) };
  const { csv, summary, chart, finding } = render(analysis, names);
  await beforeWrite();
  await writeAtomically(files.chart, chart);
  await writeAtomically(files.summary, summary);
  await writeAtomically(files.csv, csv);
  return `${finding}; wrote ${files.csv}, ${files.summary} and ${files.chart}`;
};

function readAnalysis(file: InputFile): Analysis {
  try {
    return parseAnalysis(file.text);
  } catch (error) {
    if (error instanceof StepError) throw new StepError(`input file "${file.path}": ${error.message}`);
    throw error;
  }
}

function render({ dataset, origin, result }: Analysis, files: { csv: string; chart: string }) {
  if (dataset === 'iowa-electricity') {
    return {
      csv: iowaCsv(result),
      summary: formatJson(iowaSummary(result, origin, files)),
      chart: iowaChart(result, origin),
      finding: iowaFinding(result, origin.place),
    };
  }
  return {
    csv: householdCsv(result),
    summary: formatJson(householdSummary(result, origin, files)),
    chart: householdChart(result, origin),
    finding: householdFinding(result),
  };
}
