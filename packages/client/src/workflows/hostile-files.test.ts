import { fromStoredForm, type Problem, toStoredForm } from '@baton/domain';
import { describe, expect, it } from 'vitest';
import { checkWorkflow, checkWorkflowFile } from './workflow-file.ts';

/** A file that uses everything. */
const SOUND = {
  $schema: 'x',
  name: 'all',
  description: 'everything that a file may say',
  defaults: { queue: 'q', retry: { max_attempts: 3, jitter: 0.5 }, timeout_seconds: 10, tags: ['a'], priority: 1 },
  services: { plotter: '127.0.0.1:50070' },
  output: { total: { $from: 'reduce', path: ['total'] }, all: [{ $expr: 'size(input)' }] },
  nodes: {
    list: { task: 'list', input: { year: { $input: ['year'] } }, task_class: 'cpu_long' },
    map: {
      needs: ['list'],
      for_each: { items: { $from: 'list', path: ['files'] }, max_parallel: 5 },
      task: 'count',
      input: { file: { $expr: 'item.name' }, n: { $expr: 'index' } },
      retry: { max_attempts: 2, initial_delay_seconds: 1, factor: 2, max_delay_seconds: 10, jitter: 0 },
    },
    grid: {
      matrix: { axes: { os: ['linux'], n: [1, 2] }, max_parallel: 2 },
      task: 'check',
      input: { $expr: 'matrix' },
    },
    plot: { needs: ['map'], grpc: { service: 'plotter', method: 'plots.v1.Plotter/Plot' }, on_failure: 'continue' },
    call: {
      grpc: { address: 'localhost:1', method: 'S/M' },
      schedule_to_start_seconds: 5,
      progress_timeout_seconds: 5,
    },
    sub: { workflow: 'other', version: 3, input: {}, labels: { team: 'energy' } },
    reduce: {
      needs: ['map', { node: 'grid', type: 'control' }, { node: 'plot', type: 'reward' }],
      when: 'nodes.map.state == "succeeded" && has(input.publish)',
      join: 'always',
      task: 'reduce',
      type: 'deployment',
      cache: { ttl_seconds: 60, key: { $expr: 'nodes.map.output' } },
      tags: ['b'],
      priority: -5,
    },
  },
};

const CHAIN = {
  workflow_name: 'chain',
  start_node: 'a',
  execution_mode: 'grpc',
  service_registry: { a: '127.0.0.1:1', b: '127.0.0.1:2' },
  containers: {
    a: { id: 'a', input_file: 'i', output_file: 'o', next_node: 'b', timeout_seconds: 1 },
    b: { id: 'b', input_file: 'o', output_file: 'p', next_node: null, timeout_seconds: 1 },
  },
};

const deep = (levels: number, wrap: (value: unknown) => unknown = (value) => [value]): unknown => {
  let value: unknown = 1;
  for (let level = 0; level < levels; level++) value = wrap(value);
  return value;
};

const HOSTILE: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0.1,
  1e308,
  2 ** 53,
  '',
  ' ',
  'x'.repeat(100_000),
  'a\u0000b',
  '\ud800',
  '\u202e\u0007',
  '🦓'.repeat(150),
  '__proto__',
  'constructor',
  '../../etc/passwd',
  '%24{jndi:ldap://x}',
  "'; drop table baton.runs; --",
  [],
  {},
  [[]],
  [null],
  [1, 'a', {}],
  { '': '' },
  JSON.parse('{"__proto__": {"task": "t"}, "constructor": {}, "toString": 1}'),
  { $from: 1 },
  { $from: 'nowhere' },
  { $from: 'list', path: 'files' },
  { $from: 'list', path: [-1, 0.5, null] },
  { $expr: '' },
  { $expr: 'x'.repeat(5_000) },
  { $expr: '('.repeat(2_000) },
  { $expr: 'nodes[input.x].output' },
  { $expr: '"' },
  { $input: {} },
  { $from: 'list', $input: [] },
  deep(300),
  deep(300, (value) => ({ a: value })),
  Array.from({ length: 2_000 }, (_, i) => i),
  Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`k${i}`, i])),
];

/** Every place of a value: the way to it. */
function* placesOf(value: unknown, way: readonly (string | number)[] = []): Generator<readonly (string | number)[]> {
  if (way.length > 0) yield way;
  if (typeof value !== 'object' || value === null) return;
  for (const [key, item] of Object.entries(value))
    yield* placesOf(item, [...way, Array.isArray(value) ? Number(key) : key]);
}

/** A copy with another value at a place; `undefined`: without it. */
function changed(root: unknown, way: readonly (string | number)[], put: unknown): unknown {
  const copy = structuredClone(root);
  let at = copy as Record<string | number, unknown>;
  for (const key of way.slice(0, -1)) at = at[key] as Record<string | number, unknown>;
  const last = way.at(-1)!;
  if (put === undefined && Array.isArray(at)) at.splice(Number(last), 1);
  else if (put === undefined) delete at[last];
  else at[last] = put;
  return copy;
}

/** Says what it says in full, or says that it is sound and means it. */
function judge(value: unknown, what: string): 'sound' | 'refused' {
  const since = performance.now();
  const checked = checkWorkflow(value);
  const took = performance.now() - since;
  if (took > 10_000) throw new Error(`${what}: took ${took} ms`);
  if (checked.ok) {
    const stored = toStoredForm(checked.definition);
    if (toStoredForm(fromStoredForm(stored)) !== stored) throw new Error(`${what}: is not kept as it is`);
    return 'sound';
  }
  inspect(checked.problems, what);
  return 'refused';
}

function inspect(problems: readonly Problem[], what: string): void {
  if (problems.length === 0) throw new Error(`${what}: refused without a problem`);
  for (const { path, code, message, hint } of problems) {
    const isSaid = /^[A-Z][A-Z_]+$/.test(code) && message.length > 5 && message.length < 2_000 && path.length > 0;
    if (!isSaid || (hint !== undefined && hint.length === 0))
      throw new Error(`${what}: ${JSON.stringify({ path, code, message, hint })}`);
    // What a person reads in a terminal moves no cursor.
    if (/[\u0000-\u0008\u001b\ud800-\udfff]/u.test(message + path + (hint ?? '')))
      throw new Error(`${what}: ${JSON.stringify(message)} holds what is no text`);
  }
}

describe('a file that is broken in one place', () => {
  it.each([
    ['nodes', SOUND],
    ['chain', CHAIN],
    ['nodes in a list', { ...SOUND, nodes: Object.entries(SOUND.nodes).map(([id, node]) => ({ id, ...node })) }],
  ])('of %s is refused in words, or is sound; never a crash, in bounded time', { timeout: 240_000 }, (name, file) => {
    expect(judge(file, 'whole')).toBe('sound');
    const count = { sound: 0, refused: 0 };
    for (const way of placesOf(file)) {
      count[judge(changed(file, way, undefined), `${name} without ${way.join('.')}`)]++;
      for (const [i, hostile] of HOSTILE.entries())
        count[judge(changed(file, way, hostile), `${name} with hostile ${i} at ${way.join('.')}`)]++;
    }
    // Not vacuous: most of it is wrong, and what is only odd (a text of another kind) is taken.
    expect(count.refused).toBeGreaterThan(500);
    expect(count.sound).toBeGreaterThan(20);
  });
});

const problemsOf = (text: string): string[] => {
  const checked = checkWorkflowFile(text);
  if (checked.ok) return [];
  inspect(checked.problems, text.slice(0, 80));
  return checked.problems.map(({ code, path }) => `${code} ${path}`);
};

describe('a file that is broken in many places', () => {
  it('is told all of them at once', () => {
    const problems = problemsOf(`
name: ""
nodes:
  1: { task: 5 }
  empty: {}
  self: { task: t, needs: [self] }
  both: { task: t, workflow: w }
  later: { task: t, when: nodes.after.state == "failed" }
  after: { task: t, needs: [later, nobody] }
  wild: { task: t, for_each: 3, matrix: { a: [1] }, color: red }
  text: { task: t, when: "1 +", timeout_seconds: soon, priority: 1e9, tags: [a, a] }
`);
    for (const problem of [
      'EMPTY_FIELD name',
      'WRONG_TYPE nodes["1"].task',
      'NO_EXECUTOR nodes.empty',
      'SELF_EDGE nodes.self.needs[0]',
      'TWO_EXECUTORS nodes.both',
      'EXPRESSION_NOT_UPSTREAM nodes.later.when',
      'UNKNOWN_NEED nodes.after.needs[1]',
      'TWO_FAN_OUTS nodes.wild',
      'UNKNOWN_FIELD nodes.wild.color',
      'MALFORMED_EXPRESSION nodes.text.when',
      'WRONG_TYPE nodes.text.timeout_seconds',
      'OUT_OF_RANGE nodes.text.priority',
      'DUPLICATE_TAG nodes.text.tags[1]',
    ])
      expect(
        problems.some((found) => found.startsWith(problem)),
        `${problem} in\n${problems.join('\n')}`,
      ).toBe(true);
  });

  it('by keys that occur twice, in JSON and in YAML', () => {
    expect(problemsOf('{"name": "x", "nodes": {"a": {"task": "t"}, "a": {"task": "u"}}}')[0]).toMatch(
      /^DUPLICATE_KEY /,
    );
    expect(problemsOf('name: x\nnodes:\n  a: { task: t }\n  a: { task: u }\n')[0]).toMatch(
      /^(DUPLICATE_KEY|SYNTAX_ERROR) /,
    );
    expect(problemsOf('{"name": "x", "nodes": {"__proto__": {"task": "t"}, "__proto__": {"task": "u"}}}')[0]).toMatch(
      /^DUPLICATE_KEY /,
    );
  });

  it('by aliases that would fill the memory, anchors within themselves, merge keys, tags and second documents', () => {
    const laughs = ['a: &a [x, x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 12; i++) {
      const [name, before] = [String.fromCharCode(97 + i), String.fromCharCode(96 + i)];
      laughs.push(`${name}: &${name} [${Array(10).fill(`*${before}`).join(', ')}]`);
    }
    const files = [
      `${laughs.join('\n')}\nname: x\nnodes: { n: { task: t, input: *l } }`,
      'name: x\nnodes: &n\n  a: { task: t, input: *n }\n',
      'name: x\nnodes: { a: &a { task: t }, b: { <<: *a } }',
      'name: !!js/function "x"\nnodes: { a: { task: t } }',
      'name: x\nnodes: { a: { task: t } }\n---\nname: y\nnodes: { a: { task: t } }',
      'name: x\nnodes: { a: { task: *nowhere } }',
      '\ufeffname: x\n\tnodes: { a: { task: t } }',
      '%YAML 3.0\n---\n? [a, b]\n: c',
      '{"name": 1e400, "nodes": {}}',
      '\u0000',
      '',
      '{',
      `${'['.repeat(100_000)}`,
      `${'{a: '.repeat(50_000)}`,
      `name: x\nnodes: { a: { task: t, input: ${'['.repeat(500)}${']'.repeat(500)} } }`,
    ];
    for (const file of files) {
      const since = performance.now();
      expect(problemsOf(file), file.slice(0, 60)).not.toEqual([]);
      expect(performance.now() - since).toBeLessThan(10_000);
    }
  });

  it('by circles of 10 000 nodes, among 10 000 that hang on them', () => {
    const nodes: Record<string, object> = {};
    for (let i = 0; i < 10_000; i++) {
      nodes[`c${i}`] = { task: 't', needs: [`c${(i + 1) % 10_000}`] };
      nodes[`h${i}`] = { task: 't', needs: [`c${i}`] };
    }
    const since = performance.now();
    const checked = checkWorkflow({ name: 'x', nodes });
    expect(performance.now() - since).toBeLessThan(10_000);
    if (checked.ok) throw new Error('a circle is sound');
    inspect(checked.problems, 'circle');
    expect(checked.problems.map(({ code }) => code)).toContain('CYCLE');
    expect(checked.problems.find(({ code }) => code === 'CYCLE')!.message).toMatch(/"c\d+" → .*… \d+ more …/);
  });

  it('by ids of prototypes, numbers and unicode: they are names, or refused in words', () => {
    const ids = [
      '__proto__',
      'constructor',
      'hasOwnProperty',
      '0',
      '1e3',
      '-1',
      'é',
      'e\u0301',
      '🦓',
      'a b',
      'a.b',
      '"',
      '\\',
      'nodes',
    ];
    const nodes = Object.fromEntries(ids.map((id) => [id, { task: 't' }]));
    const file = JSON.stringify({ name: 'x', nodes: {} }).replace(
      '{}',
      `{${ids.map((id) => `${JSON.stringify(id)}: {"task": "t", "input": {"__proto__": 1}}`).join(',')}}`,
    );
    const checked = checkWorkflowFile(file);
    if (!checked.ok) throw new Error(JSON.stringify(checked.problems));
    expect(checked.definition.nodes.map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect(Object.getPrototypeOf(nodes)).toBe(Object.prototype);
    expect(({} as Record<string, unknown>).task).toBeUndefined();
    for (const id of ['', 'x'.repeat(201), 'a\u0000', 'a\nb', '\u007f'])
      expect(problemsOf(JSON.stringify({ name: 'x', nodes: { [id]: { task: 't' } } })), JSON.stringify(id)).not.toEqual(
        [],
      );
  });
});

describe('the text of a file', () => {
  it('cut, doubled or changed anywhere is refused in words, or is sound', { timeout: 240_000 }, () => {
    const texts = [JSON.stringify(SOUND), JSON.stringify(CHAIN, null, 1)];
    const yaml =
      'name: x\ndefaults: { retry: &r { max_attempts: 3 } }\nnodes:\n  a: { task: t, input: [1, "two"] }\n  b:\n    needs: [a]\n    task: >-\n      folded\n    retry: *r\n';
    texts.push(yaml);
    let refused = 0;
    let seed = 7;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed / 2_147_483_648;
    };
    const odd = [
      '\u0000',
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '&a',
      '*a',
      '<<',
      '#',
      '---\n',
      '\t',
      '\ud800',
      '!!',
      '|',
      '\\u0000',
      '1e999',
    ];
    for (const text of texts)
      for (let i = 0; i < 400; i++) {
        const at = Math.floor(random() * text.length);
        const kind = random();
        const broken =
          kind < 0.3
            ? text.slice(0, at)
            : kind < 0.6
              ? text.slice(0, at) + odd[Math.floor(random() * odd.length)] + text.slice(at)
              : kind < 0.8
                ? text.slice(0, at) + text.slice(at + 1 + Math.floor(random() * 8))
                : text.slice(0, at) + text.slice(Math.max(0, at - 20));
        const since = performance.now();
        const checked = checkWorkflowFile(broken);
        expect(performance.now() - since).toBeLessThan(10_000);
        if (checked.ok) continue;
        refused++;
        inspect(checked.problems, broken);
      }
    expect(refused).toBeGreaterThan(400);
  });
});
