import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBaton, type RunView, type WorkflowDefinition } from '@baton/client';
import { inBothModes } from '@baton/testkit/modes';
import { expect, onTestFinished, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { startEnergyServices } from '../src/index.ts';
import { pipeline } from '../src/pipeline.ts';

const EXAMPLE = join(import.meta.dirname, '..');
const OUTPUTS = [
  'final_report.csv',
  'final_report.summary.json',
  'final_report.svg',
  'output1.json',
  'output2.json',
] as const;

/** SHA-256 of what the services wrote, by file. */
function hashes(directory: string): Record<string, string> {
  const written = readdirSync(directory).sort();
  return Object.fromEntries(
    written.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(directory, name)))
        .digest('hex'),
    ]),
  );
}

/** One mode gives what the other does. */
let ofFirstMode: Record<string, string> | undefined;

inBothModes({ tasksModule: new URL('../src/function.ts', import.meta.url) }, (stack) => {
  test('file, graph and durable function: the same reports of the real data, byte for byte', {
    timeout: 120_000,
  }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'energy-forms-'));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    cpSync(join(EXAMPLE, 'data'), join(directory, 'data'), { recursive: true });
    const energy = await startEnergyServices({ cwd: directory });
    onTestFinished(() => energy.stop());
    const baton = createBaton({ url: stack().url });

    const services = Object.fromEntries(Object.entries(energy.services).map(([id, { address }]) => [id, address]));
    /** The services listen on ports of their own. */
    const placed = (definition: object): WorkflowDefinition => {
      const ports = ['energy-generator', 'energy-analyzer', 'report-generator'];
      const text = ports.reduce(
        (all, id, i) => all.replaceAll(`127.0.0.1:5006${i + 1}`, services[id]!),
        JSON.stringify(definition),
      );
      return JSON.parse(text) as WorkflowDefinition;
    };
    const read = (name: string) => readFileSync(join(EXAMPLE, name), 'utf8');

    const outputs = join(directory, 'outputs', 'iowa');
    const results: { form: string | undefined; hashes: Record<string, string> }[] = [];
    const forms: (() => Promise<{ result(): Promise<RunView> }>)[] = [
      () => baton.runs.start(placed(JSON.parse(read('energy-pipeline.json')))),
      () => baton.runs.start(placed(parseYaml(read('energy-pipeline.baton.yaml')))),
      () => baton.runs.start(placed(pipeline.definition)),
      () => baton.runs.start('energy-pipeline-function', { input: { services } }),
    ];
    for (const start of forms) {
      rmSync(outputs, { recursive: true, force: true });
      const run = await (await start()).result();
      const { form } = await baton.runs.get(run.id);
      results.push({ form, hashes: hashes(outputs) });
    }
    expect(results.map(({ form }) => form)).toEqual(['chain', 'nodes', 'nodes', 'function']);
    expect(Object.keys(results[0]!.hashes)).toEqual(OUTPUTS);
    ofFirstMode ??= results[0]!.hashes;
    for (const result of results) expect(result.hashes).toEqual(ofFirstMode);
    // Of the real data, and not of nothing.
    expect(readFileSync(join(outputs, 'final_report.csv'), 'utf8').split('\n').length).toBeGreaterThan(50);
  });
});
