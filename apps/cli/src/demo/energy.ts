import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { WorkflowDefinition } from '@baton/client';

/** Where the example is, below the repository. */
const EXAMPLE = join('examples', 'energy-pipeline');

/** What is used of the example. It is no dependency of the command, which ships without it: the demo loads it by path. */
export interface EnergyServices {
  readonly services: Readonly<Record<string, { readonly address: string; readonly pid: number }>>;
  stop(): Promise<void>;
}

interface EnergyExample {
  startEnergyServices(options: {
    readonly delayMs?: Readonly<Record<string, number>>;
    readonly cwd: string;
  }): Promise<EnergyServices>;
}

/** Starts generator, analyzer and reporter on free ports. `delayMs`: how long one holds each call open, by its name. */
export async function startEnergy(root: string, delayMs?: Readonly<Record<string, number>>): Promise<EnergyServices> {
  const module = pathToFileURL(join(root, EXAMPLE, 'src', 'index.ts')).href;
  const { startEnergyServices } = (await import(module)) as EnergyExample;
  return startEnergyServices({ cwd: root, delayMs });
}

interface ChainFile {
  readonly service_registry: Record<string, string>;
  readonly containers: Record<string, { input_file: string; output_file: string }>;
}

/**
 * The example's own workflow file, with the addresses of services that run and its outputs in another directory.
 * @param outputs relative to the root, or absolute
 */
export async function energyDefinition(
  root: string,
  { services }: EnergyServices,
  outputs: string,
): Promise<WorkflowDefinition> {
  const text = await readFile(join(root, EXAMPLE, 'energy-pipeline.json'), 'utf8');
  const file = JSON.parse(text) as ChainFile & WorkflowDefinition;
  const moved = (path: string): string => {
    if (path.startsWith('outputs/')) return join(outputs, relative('outputs', path));
    return path.startsWith('data/') ? join(EXAMPLE, path) : path;
  };
  for (const id of Object.keys(file.service_registry)) file.service_registry[id] = services[id]!.address;
  for (const container of Object.values(file.containers)) {
    container.input_file = moved(container.input_file);
    container.output_file = moved(container.output_file);
  }
  return file;
}

/** Every file that a run leaves, relative to its directory of outputs. */
export const OUTPUT_FILES = [
  'iowa/output1.json',
  'iowa/output2.json',
  'iowa/final_report.csv',
  'iowa/final_report.summary.json',
  'iowa/final_report.svg',
] as const;

export interface EnergyOutputs {
  readonly csv: string;
  readonly summary: string;
  readonly chart: string;
}

/** Where the report is, as absolute paths. */
export function energyOutputs(outputs: string): EnergyOutputs {
  const at = (name: string): string => join(outputs, 'iowa', name);
  return { csv: at('final_report.csv'), summary: at('final_report.summary.json'), chart: at('final_report.svg') };
}

/** What the report found, in a sentence and in figures; read from the summary that the pipeline wrote. */
export interface EnergyFigures {
  readonly finding: string;
  readonly rows: { readonly read: number; readonly used: number; readonly skipped: number };
  readonly [figure: string]: unknown;
}

export async function energyFigures(outputs: string): Promise<EnergyFigures> {
  const summary = JSON.parse(await readFile(energyOutputs(outputs).summary, 'utf8')) as Record<string, unknown>;
  const { finding, rows, period, sources, anomalies } = summary;
  return { finding, rows, period, sources, anomalies } as EnergyFigures;
}
