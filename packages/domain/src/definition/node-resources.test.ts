import { describe, expect, it } from 'vitest';
import { expressions } from './definition.fixture.ts';
import { parseDefinition } from './parse-definition.ts';
import { fromStoredForm, toStoredForm } from './stored-form.ts';

const GIB = 2 ** 30;

function parse(node: object, defaults?: object) {
  return parseDefinition(
    { name: 'w', ...(defaults && { defaults }), nodes: { a: { task: 't', ...node } } },
    expressions,
  );
}

function nodeOf(node: object, defaults?: object) {
  const parsed = parse(node, defaults);
  if (!parsed.ok) throw new Error(parsed.problems.map((p) => p.message).join('\n'));
  return parsed.definition.nodes[0]!;
}

function problemsOf(node: object): string[] {
  const parsed = parse(node);
  return parsed.ok ? [] : parsed.problems.map(({ code, path }) => `${code} ${path}`);
}

describe('resources and requires of a node', () => {
  it('are read, merged field by field over defaults, and kept', () => {
    const node = nodeOf(
      { resources: { gpus: 2, gpu_memory_gib: 40, gpu_model: 'A100' }, requires: { selector: 'gpu.memory_gib >= 40' } },
      { resources: { cpus: 4, gpus: 1 }, requires: { os: ['linux'], tools: ['ffmpeg>=5'] } },
    );
    expect(node.resources).toEqual({ cpus: 4, gpus: 2, gpuMemoryBytes: 40 * GIB, gpuModel: 'A100' });
    expect(node.requires).toEqual({ os: ['linux'], tools: ['ffmpeg>=5'], selector: 'gpu.memory_gib >= 40' });
    expect(nodeOf({})).not.toHaveProperty('resources');
    const parsed = parse({ resources: { memory_bytes: 5 }, requires: { tools: ['git'] } });
    if (!parsed.ok) throw new Error('not sound');
    expect(fromStoredForm(toStoredForm(parsed.definition))).toEqual(parsed.definition);
  });

  it('say all that is wrong with them, at its place', () => {
    expect(
      problemsOf({
        resources: { cpus: -1, memory_gib: 1, memory_bytes: 2, gpus: 1.5, gpu: 1 },
        requires: { tools: ['git>='], selector: 'gpu.memory > 4' },
      }),
    ).toEqual([
      'OUT_OF_RANGE nodes.a.resources.cpus',
      'OUT_OF_RANGE nodes.a.resources.memory_bytes',
      'OUT_OF_RANGE nodes.a.resources.gpus',
      'UNKNOWN_FIELD nodes.a.resources.gpu',
      'INVALID_NAME nodes.a.requires.tools[0]',
      'MALFORMED_EXPRESSION nodes.a.requires.selector',
    ]);
    expect(problemsOf({ resources: { gpus: 0, gpu_memory_gib: 4 } })).toEqual([
      'OUT_OF_RANGE nodes.a.resources.gpu_memory_bytes',
    ]);
  });
});
