import { describe, expect, it } from 'vitest';
import { type Broken, definitionOf, expressions, parseDefinition, seededRandom } from './definition.fixture.ts';
import { nodesReadBy } from './resolve-node.ts';
import { fromStoredForm, toStoredForm } from './stored-form.ts';

/** A file that uses every field. */
function fullFile(): Broken {
  return {
    $schema: './workflow.schema.json',
    name: 'report',
    description: 'everything',
    defaults: { queue: 'q', schedule_to_start_seconds: 60, progress_timeout_seconds: 5, retry: { max_attempts: 2 } },
    services: { plotter: '127.0.0.1:50070' },
    output: { total: { $from: 'reduce', path: ['total'] }, state: { $expr: 'nodes.publish.state' } },
    nodes: {
      list: { task: 'list-files', input: { year: { $input: ['year'] } } },
      map: {
        needs: ['list'],
        for_each: { items: { $from: 'list', path: ['files'] }, max_parallel: 50 },
        task: 'count',
        input: { file: { $expr: 'item.name' }, n: { $expr: 'index' } },
        cache: { ttl_seconds: 3600, key: { $expr: 'item.name' } },
      },
      short: { task: 't', for_each: ['a', 'b'] },
      reduce: { needs: ['map'], task: 'sum', input: { counts: { $from: 'map' } }, progress_timeout_seconds: 9 },
      test: {
        needs: ['list'],
        matrix: { os: ['linux', 'mac'], size: { $from: 'list', path: ['sizes'] } },
        task: 'check',
        input: { $expr: 'matrix' },
      },
      publish: {
        needs: ['reduce', { node: 'test', type: 'control' }, { node: 'short', type: 'data' }],
        when: 'nodes.reduce.output.total > 10 && input.publish',
        join: 'any',
        on_failure: 'continue',
        grpc: { service: 'plotter', method: 'a.B/C' },
        type: 'deployment',
        labels: { team: 'energy', empty: '' },
      },
      sub: { workflow: 'other', version: 3, input: { a: 1 }, join: 'all', on_failure: 'stop' },
      newest: { workflow: 'other', matrix: { axes: { a: [1, 2] }, max_parallel: 1 } },
    },
  };
}

const nodeOf = (id: string) => definitionOf(fullFile()).nodes.find((node) => node.id === id)!;

describe('the fields of a node', () => {
  it('come into the normal form, and are absent where a file says nothing or the default', () => {
    expect(nodeOf('map')).toMatchObject({
      forEach: { items: { $from: 'list', path: ['files'] }, maxParallel: 50 },
      cache: { ttlMs: 3_600_000, key: { $expr: 'item.name' } },
      scheduleToStartMs: 60_000,
      progressTimeoutMs: 5_000,
    });
    expect(nodeOf('short').forEach).toEqual({ items: ['a', 'b'] });
    expect(nodeOf('reduce').progressTimeoutMs).toBe(9_000);
    expect(nodeOf('test').forEach).toEqual({
      matrix: { os: ['linux', 'mac'], size: { $from: 'list', path: ['sizes'] } },
    });
    expect(nodeOf('publish')).toMatchObject({
      needs: ['reduce', 'short', 'test'],
      when: 'nodes.reduce.output.total > 10 && input.publish',
      join: 'any',
      onFailure: 'continue',
      type: 'deployment',
      edgeTypes: { test: 'control' },
      labels: { team: 'energy', empty: '' },
    });
    expect(nodeOf('sub')).toMatchObject({ kind: 'other', executor: { type: 'workflow', name: 'other', version: 3 } });
    expect(nodeOf('newest')).toMatchObject({
      executor: { version: null },
      forEach: { matrix: { a: [1, 2] }, maxParallel: 1 },
    });
    expect(Object.keys(nodeOf('sub'))).not.toEqual(expect.arrayContaining(['join']));
    expect(Object.keys(nodeOf('sub'))).not.toEqual(expect.arrayContaining(['onFailure']));
    expect(definitionOf(fullFile()).output).toEqual(fullFile().output);
  });

  it('are kept as they are, in a form that masters before them refuse', () => {
    const definition = definitionOf(fullFile());
    const text = toStoredForm(definition);
    expect(fromStoredForm(text)).toEqual(definition);
    expect(toStoredForm(fromStoredForm(text))).toBe(text);
    expect(JSON.parse(text)).toMatchObject({ engine: 2, version: 2 });
  });

  it('of definitions that were stored before are read as ever', () => {
    const old = JSON.parse(toStoredForm(definitionOf({ name: 'x', nodes: { a: { task: 't' } } })));
    delete old.engine;
    old.version = 1;
    expect(fromStoredForm(JSON.stringify(old))).toEqual(definitionOf({ name: 'x', nodes: { a: { task: 't' } } }));
  });

  it('say which nodes are read when one starts', () => {
    const read = (id: string): string[] => [...nodesReadBy(nodeOf(id), expressions)].sort();
    expect([read('list'), read('map'), read('publish'), read('test')]).toEqual([[], ['list'], ['reduce'], ['list']]);
  });
});

describe('a broken file', () => {
  const cases: [string, (file: Broken) => void, string, RegExp?][] = [
    ['a when that is no text', (f) => (f.nodes.publish.when = true), 'WRONG_TYPE nodes.publish.when'],
    ['a when that cannot be read', (f) => (f.nodes.publish.when = '1 +'), 'MALFORMED_EXPRESSION nodes.publish.when'],
    [
      'files for a node that runs a workflow',
      (f) => (f.nodes.sub.artifacts = {}),
      'UNKNOWN_FIELD nodes.sub.artifacts',
      /name them in "input"/,
    ],
    [
      'a name that is unknown',
      (f) => (f.nodes.publish.when = 'inptu.x'),
      'MALFORMED_EXPRESSION nodes.publish.when',
      /did you mean "input"/,
    ],
    [
      'a computed node',
      (f) => (f.nodes.publish.when = 'nodes[input.x].output'),
      'MALFORMED_EXPRESSION nodes.publish.when',
    ],
    [
      'an expression of nowhere',
      (f) => (f.nodes.publish.when = 'nodes.reduc.output'),
      'UNKNOWN_REFERENCE nodes.publish.when',
      /did you mean "reduce"/,
    ],
    [
      'an expression of a node that is not upstream',
      (f) => (f.nodes.list.when = 'nodes.reduce.output'),
      'EXPRESSION_NOT_UPSTREAM nodes.list.when',
      /add "reduce" to its "needs"/,
    ],
    [
      'its own output',
      (f) => (f.nodes.list.when = 'nodes.list.output'),
      'EXPRESSION_NOT_UPSTREAM nodes.list.when',
      /its own output/,
    ],
    [
      'an item outside of a fan-out',
      (f) => (f.nodes.reduce.input.x = { $expr: 'item' }),
      'MALFORMED_EXPRESSION nodes.reduce.input.x["$expr"]',
    ],
    ['an item in a when', (f) => (f.nodes.map.when = 'item.ok'), 'MALFORMED_EXPRESSION nodes.map.when'],
    [
      'a matrix in a for_each',
      (f) => (f.nodes.map.input.x = { $expr: 'matrix.os' }),
      'MALFORMED_EXPRESSION nodes.map.input.x["$expr"]',
    ],
    [
      'an $expr that is no text',
      (f) => (f.nodes.map.input.x = { $expr: 3 }),
      'MALFORMED_REFERENCE nodes.map.input.x["$expr"]',
    ],
    ['a for_each of a number', (f) => (f.nodes.map.for_each = 3), 'WRONG_TYPE nodes.map.for_each'],
    ['items of an object', (f) => (f.nodes.map.for_each.items = { a: 1 }), 'WRONG_TYPE nodes.map.for_each.items'],
    ['no items', (f) => delete f.nodes.map.for_each.items, 'MISSING_FIELD nodes.map.for_each.items'],
    ['too many items', (f) => (f.nodes.short.for_each = Array(100_001).fill(0)), 'TOO_MANY_ITEMS nodes.short.for_each'],
    [
      'too many combinations',
      (f) => (f.nodes.test.matrix = { a: Array(400).fill(0), b: Array(400).fill(0) }),
      'TOO_MANY_ITEMS nodes.test.matrix',
    ],
    ['two fan-outs', (f) => (f.nodes.short.matrix = { a: [1] }), 'TWO_FAN_OUTS nodes.short'],
    ['an empty matrix', (f) => (f.nodes.newest.matrix = {}), 'EMPTY_FIELD nodes.newest.matrix'],
    ['an odd join', (f) => (f.nodes.publish.join = 'alll'), 'UNKNOWN_VALUE nodes.publish.join', /did you mean "all"/],
    ['an odd on_failure', (f) => (f.nodes.publish.on_failure = 'ignore'), 'UNKNOWN_VALUE nodes.publish.on_failure'],
    ['an odd type', (f) => (f.nodes.publish.type = 'deploy'), 'UNKNOWN_NODE_TYPE nodes.publish.type'],
    [
      'an odd edge',
      (f) => (f.nodes.publish.needs[1].type = 'contrl'),
      'UNKNOWN_EDGE_TYPE nodes.publish.needs[1].type',
      /control/,
    ],
    [
      'an edge to nobody',
      (f) => (f.nodes.publish.needs[1].node = 'tset'),
      'UNKNOWN_NEED nodes.publish.needs[1].node',
      /did you mean "test"/,
    ],
    ['a label that is no text', (f) => (f.nodes.publish.labels.team = 3), 'WRONG_TYPE nodes.publish.labels.team'],
    [
      'a cache without a time',
      (f) => delete f.nodes.map.cache.ttl_seconds,
      'MISSING_FIELD nodes.map.cache.ttl_seconds',
    ],
    [
      'a cache of another node',
      (f) => (f.nodes.map.cache.key = { $from: 'reduce' }),
      'REFERENCE_NOT_UPSTREAM nodes.map.cache.key["$from"]',
    ],
    ['three executors', (f) => (f.nodes.sub.task = 't'), 'TWO_EXECUTORS nodes.sub'],
    ['a version of nothing', (f) => (f.nodes.list.version = 2), 'UNKNOWN_FIELD nodes.list.version'],
    ['a version 0', (f) => (f.nodes.sub.version = 0), 'OUT_OF_RANGE nodes.sub.version'],
    [
      'an output of nobody',
      (f) => (f.output.total.$from = 'reduc'),
      'UNKNOWN_REFERENCE output.total["$from"]',
      /"reduce"/,
    ],
    ['an output of an item', (f) => (f.output.state.$expr = 'item'), 'MALFORMED_EXPRESSION output.state["$expr"]'],
  ];
  it.each(cases)('with %s is refused, and only for that', (_, change, problem, hint) => {
    const file = fullFile();
    change(file);
    const parsed = parseDefinition(file);
    const problems = parsed.ok ? [] : parsed.problems;
    expect(
      problems.map(({ code, path }) => `${code} ${path.replaceAll('.$', '["$').replaceAll(/(\["\$\w+)$/g, '$1"]')}`),
    ).toEqual([problem]);
    if (hint) expect(`${problems[0]!.hint}`).toMatch(hint);
  });

  it('with everything broken reports all of it at once', () => {
    const file = fullFile();
    for (const [, change] of cases.slice(0, 1)) change(file);
    file.nodes.map.for_each = 3;
    file.nodes.publish.type = 'deploy';
    file.output = { $expr: '(' };
    const parsed = parseDefinition(file);
    expect(parsed.ok ? [] : parsed.problems.map(({ code }) => code).sort()).toEqual(
      ['MALFORMED_EXPRESSION', 'UNKNOWN_NODE_TYPE', 'WRONG_TYPE', 'WRONG_TYPE'].sort(),
    );
  });

  it('however it was broken has problems with paths, and never throws', () => {
    const random = seededRandom(20_261_122);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
    const values = (): unknown =>
      pick([
        null,
        true,
        0,
        -1,
        1e300,
        '',
        'x',
        '1 +',
        'nodes.map.output',
        [],
        {},
        [[]],
        { $from: 'map' },
        { $expr: 'item' },
        { $expr: '((' },
        { $input: 3 },
        '\ud800',
        '__proto__',
        { node: 'map' },
        Number.NaN,
        undefined,
      ]);
    let refused = 0;
    for (let round = 0; round < 3_000; round++) {
      const file = fullFile();
      for (let change = 0; change < 1 + Math.floor(random() * 3); change++) mutate(file);
      const parsed = parseDefinition(file);
      if (parsed.ok) {
        expect(fromStoredForm(toStoredForm(parsed.definition))).toEqual(parsed.definition);
      } else {
        refused += 1;
        expect(parsed.problems.length).toBeGreaterThan(0);
        for (const { path, code, message } of parsed.problems) {
          expect(path).toMatch(/^(\$|[A-Za-z$_[])/);
          expect(code).toMatch(/^[A-Z_]+$/);
          expect(message.length).toBeGreaterThan(5);
        }
      }
    }
    expect(refused).toBeGreaterThan(1_500);

    /** Changes, drops, adds, swaps or moves something somewhere. */
    function mutate(file: Broken): void {
      const places: { parent: Broken; key: string | number }[] = [];
      const visit = (value: Broken): void => {
        if (typeof value !== 'object' || value === null) return;
        for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
          places.push({ parent: value, key });
          visit(value[key]);
        }
      };
      visit(file);
      if (places.length === 0) return;
      const { parent, key } = pick(places);
      const other = pick(places);
      const kind = random();
      if (kind < 0.4) parent[key] = values();
      else if (kind < 0.55) Array.isArray(parent) ? parent.splice(Number(key), 1) : delete parent[key];
      else if (kind < 0.7) parent[Array.isArray(parent) ? parent.length : `${key}x`] = parent[key];
      else if (kind < 0.85 && typeof parent[key] === 'string') {
        const at = Math.floor(random() * parent[key].length);
        parent[key] =
          parent[key].slice(0, at) + pick(['', '.', '[', '"', ' ', 'é', '\u0000']) + parent[key].slice(at + 1);
      } else parent[key] = structuredClone(other.parent[other.key]);
    }
  });
});

it('10 000 nodes and 100 000 needs, each with an expression of its own, are read in about half a second of work', () => {
  const nodes: Broken = {};
  for (let index = 0; index < 10_010; index++) {
    const from = Math.max(0, index - 10);
    const needs = Array.from({ length: index - from }, (_, need) => `n${from + need}`);
    const when = index === 0 ? 'input.go' : `nodes.n${index - 1}.output.total > ${index} && input.publish`;
    nodes[`n${index}`] = { task: 't', needs, when };
  }
  const began = process.threadCpuUsage();
  const parsed = parseDefinition({ name: 'big', nodes });
  const { user, system } = process.threadCpuUsage(began);
  expect(parsed.ok && parsed.definition.nodes.length).toBe(10_010);
  if (process.env.SHOW_TIMES) console.log(`10 010 nodes with expressions: ${(user + system) / 1000} ms of work`);
  expect((user + system) / 1000).toBeLessThan(1_000);
});
