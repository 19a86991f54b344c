import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { checkWorkflow, checkWorkflowFile, parseWorkflowFile, workflowSchema } from './workflow-file.ts';

const validate = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, allErrors: false }).compile(
  workflowSchema,
);
const repository = new URL('../../../../', import.meta.url);
const text = (path: string): string => readFileSync(new URL(path, repository), 'utf8');

function readYaml(yaml: string): unknown {
  const parsed = parseWorkflowFile(yaml, { format: 'yaml' });
  if (!parsed.ok) expect.fail(JSON.stringify(parsed.problems));
  return parsed.value;
}

/** One node, with everything that it takes. */
const node = (fields: string): string => `{ name: x, nodes: { a: { task: t, ${fields} }, b: { task: t } } }`;

const blocks = [...text('docs/guide/workflows.md').matchAll(/^```(?:yaml|json)\n(.*?)^```/gms)].map(
  ([, block], number): [string, string] => [`block ${number + 1} of the guide`, block!],
);
const files = ['energy-pipeline.json', 'household-pipeline.json', 'energy-pipeline.baton.yaml'].map(
  (name): [string, string] => [name, text(`examples/energy-pipeline/${name}`)],
);
const nodes = [
  'needs: [b]',
  'needs: [{ node: b, type: reward }]',
  'for_each: [1, 2]',
  'for_each: { $input: [list] }',
  'for_each: { items: { $expr: "input.list" }, max_parallel: 4 }, input: { x: { $expr: "item + index" } }',
  'matrix: { os: [linux, mac], size: { $input: [sizes] } }',
  'matrix: { axes: { os: [linux] }, max_parallel: 1 }',
  'matrix: { axes: [1, 2] }',
  'when: "input.go", join: always, on_failure: continue, type: reward, labels: { team: "", "a b": x }',
  'cache: { ttl_seconds: 60, key: { $expr: "input.k" } }',
  'input: [{ deep: { $from: b, path: [x, 0] } }, null, 1.5], needs: [b]',
  'schedule_to_start_seconds: 5, progress_timeout_seconds: 0.5, priority: -3, retry: { jitter: 0.5 }',
].map((fields): [string, string] => [fields, node(fields)]);
const whole: [string, string][] = [
  ['a sub-workflow', '{ $schema: ./x.json, name: x, nodes: [{ id: a, workflow: other, version: 3 }] }'],
  [
    'an output',
    '{ name: x, output: { $from: a }, services: { s: "h:1" }, nodes: { a: { grpc: { service: s, method: S/M } } } }',
  ],
];

describe('the schema', () => {
  it('is the file that is shipped; `node tools/workflow-schema.ts` writes it', () => {
    expect(JSON.parse(text('packages/client/workflow.schema.json'))).toEqual(workflowSchema);
    expect(text('packages/api/workflow.schema.json')).toBe(text('packages/client/workflow.schema.json'));
  });

  it.each([...blocks, ...files, ...nodes, ...whole])('accepts what is sound: %s', (_, yaml) => {
    expect(checkWorkflowFile(yaml, { format: 'yaml' })).toMatchObject({ ok: true });
    expect(validate(readYaml(yaml)), JSON.stringify(validate.errors)).toBe(true);
  });

  it.each([
    '{ name: x }',
    '{ name: x, nodes: {} }',
    '{ name: x, nodes: [{ task: t }] }',
    '{ name: x, nodes: { a: {} } }',
    '{ name: x, nodes: { a: { task: t, workflow: w } } }',
    '{ name: x, nodes: { a: { task: t, version: 1 } } }',
    '{ name: x, nodes: { a: { task: t } }, ouput: 1 }',
    '{ name: 3, nodes: { a: { task: t } } }',
    '{ name: x, defaults: { task: t }, nodes: { a: { task: t } } }',
    '{ workflow_name: x, start_node: a, execution_mode: grpc, service_registry: {}, containers: {} }',
    '{ workflow_name: x, start_node: a, execution_mode: docker, service_registry: { a: "h:1" }, containers: { a: { id: a, input_file: i, output_file: o, next_node: null, timeout_seconds: 1 } } }',
    node('needs: b'),
    node('needs: [{ node: b, type: money }]'),
    node('for_each: 3'),
    node('for_each: { max_parallel: 3 }'),
    node('for_each: { items: [1], max_parallel: 0 }'),
    node('for_each: [1], matrix: { a: [1] }'),
    node('matrix: {}'),
    node('matrix: { a: 1 }'),
    node('matrix: [1]'),
    node('when: true'),
    node('when: ""'),
    node('join: most'),
    node('on_failure: ignore'),
    node('type: other'),
    node('labels: { a: 1 }'),
    node('cache: {}'),
    node('cache: { ttl_seconds: 0 }'),
    node('input: { $from: b, pth: [x] }, needs: [b]'),
    node('input: { x: [{ $expr: 3 }] }'),
    node('input: { $input: ["a"], $expr: "1" }'),
    node('input: { $from: b, path: [-1] }, needs: [b]'),
    node('timeout_seconds: 0'),
    node('priority: 1.5'),
    node('retry: { max_attempts: 0 }'),
    node('task_class: huge'),
    node('grpc: { method: S/M, address: "h:1" }'),
    node('colour: red'),
  ])('refuses what is refused: %s', (yaml) => {
    expect(checkWorkflow(readYaml(yaml)).ok).toBe(false);
    expect(validate(readYaml(yaml))).toBe(false);
  });
});
