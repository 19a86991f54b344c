import { readFileSync } from 'node:fs';
import { checkWorkflow } from '@baton/client/workflow-file';
import type { NodeDefinition, WorkflowDefinition } from '@baton/domain';
import { expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { pipeline } from '../src/pipeline.ts';
import { SERVICES } from '../src/service/kinds.ts';

const read = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');

function definitionOf(value: unknown): WorkflowDefinition {
  const parsed = checkWorkflow(value);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems, null, 2));
  return parsed.definition;
}

const chain = ['energy-generator', 'energy-analyzer', 'report-generator'];

test.each(['energy-pipeline.json', 'household-pipeline.json'])('%s is a valid chain of the three services', (name) => {
  const { nodes } = definitionOf(JSON.parse(read(name)));
  expect(nodes.map(({ id }) => id)).toEqual(chain);
  expect(nodes.map(({ timeoutMs }) => timeoutMs)).toEqual([30_000, 60_000, 30_000]);
  expect(nodes.map(({ executor }) => executor)).toEqual(
    Object.values(SERVICES).map(({ defaultPort }) => ({
      type: 'grpc',
      address: `127.0.0.1:${defaultPort}`,
      method: 'ContainerExecutor/Execute',
    })),
  );
  const files = nodes.map(({ input }) => input as { input_file: string; output_file: string });
  expect(files[1]!.input_file).toBe(files[0]!.output_file);
  expect(files[2]!.input_file).toBe(files[1]!.output_file);
  expect(() => JSON.parse(read(files[0]!.input_file))).not.toThrow();
});

test('the file in Baton’s own form says the same', () => {
  const pick = ({ id, needs, executor, input, timeoutMs }: NodeDefinition) => ({
    id,
    needs,
    executor,
    input,
    timeoutMs,
  });
  const own = definitionOf(parseYaml(read('energy-pipeline.baton.yaml')));
  const configured = definitionOf(JSON.parse(read('energy-pipeline.json')));
  expect(own.nodes.map(pick)).toEqual(configured.nodes.map(pick));
  expect(own.name).toBe(configured.name);
});

test('the pipeline in TypeScript is that of the file', () => {
  expect(definitionOf(pipeline.definition)).toEqual(definitionOf(parseYaml(read('energy-pipeline.baton.yaml'))));
});
