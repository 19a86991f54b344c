import { relative } from 'node:path';
import type { RunView } from '@baton/client';
import { EXIT } from '../exit.ts';
import { withDemoStack } from './demo-stack.ts';
import { type EnergyFigures, energyDefinition, energyFigures, energyOutputs } from './energy.ts';
import type { DemoOptions } from './options.ts';
import { nodeReport, runPipeline, secondsBetween } from './pipeline.ts';

/** `npm run demo`: the exit code says how the run ended. */
export async function run(options: DemoOptions & { readonly home: string }): Promise<number> {
  const { context, root, out, print } = options;
  const { screen } = context;
  const startedAt = performance.now();
  const ended = await withDemoStack({ ...options, port: 0 }, async ({ addresses, energy, baton, signal }) => {
    screen.note({ text: `Baton is up at ${addresses.url} with ${addresses.workers.length} workers`, style: 'dim' });
    const definition = await energyDefinition(root, energy, relative(root, out) || out);
    const run = await runPipeline(context, baton, definition, signal);
    return { run, figures: run.state === 'succeeded' ? await energyFigures(out) : undefined };
  });
  const { run: pipeline, figures } = ended;
  const seconds = Math.round(performance.now() - startedAt) / 1_000;
  print?.(reportOf(pipeline, out, figures, seconds));
  if (figures === undefined) {
    screen.note({ text: `the pipeline ${pipeline.state}: ${pipeline.failureMessage ?? ''}`, style: 'red' });
    return EXIT.failed;
  }
  screen.note('');
  screen.note({ text: figures.finding, style: 'bold' });
  for (const [what, path] of Object.entries(energyOutputs(out))) screen.note(`  ${what.padEnd(8)} ${path}`);
  screen.note({ text: `${seconds} s in all; every process is stopped`, style: 'dim' });
  return EXIT.ok;
}

function reportOf(run: RunView, out: string, figures: EnergyFigures | undefined, seconds: number): object {
  return {
    run_id: run.id,
    workflow: run.workflowName,
    state: run.state,
    seconds: secondsBetween(run.startTime, run.endTime),
    total_seconds: seconds,
    nodes: run.nodes.map(nodeReport),
    failure: run.failureMessage ?? null,
    outputs: figures === undefined ? null : energyOutputs(out),
    figures: figures ?? null,
  };
}
