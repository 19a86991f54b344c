import { describe, expect, it } from 'vitest';
import { type Broken, definitionOf, nodesFile, parseDefinition, problemsOf } from './definition.fixture.ts';
import type { Problem } from './problem.ts';

function problemList(file: unknown): Problem[] {
  const parsed = parseDefinition(file);
  return parsed.ok ? [] : [...parsed.problems];
}

/** A file of three nodes in which one thing is broken. */
function broken(change: (file: Broken) => void): Problem[] {
  const file: Broken = {
    name: 'flow',
    services: { analyzer: 'localhost:50052' },
    nodes: {
      load: { task: 'load' },
      analyze: { needs: ['load'], grpc: { service: 'analyzer', method: 'energy.v1.Analyzer/Analyze' } },
      report: { needs: ['analyze'], task: 'report', input: { from: { $from: 'load', path: ['file', 0] } } },
    },
  };
  change(file);
  return problemList(file);
}

describe('a sound file', () => {
  it('gets every default', () => {
    expect(definitionOf({ name: 'one', nodes: { a: { task: 'hello' } } })).toEqual({
      name: 'one',
      form: 'nodes',
      nodes: [
        {
          id: 'a',
          needs: [],
          executor: { type: 'function', kind: 'hello' },
          kind: 'hello',
          queue: 'default',
          taskClass: 'cpu_short',
          tags: [],
          input: {},
          retry: { maxAttempts: 4, initialDelayMs: 5_000, factor: 2, maxDelayMs: 3_600_000, jitter: 0 },
          timeoutMs: 3_600_000,
          priority: 0,
        },
      ],
    });
  });

  it('takes the file’s defaults where a node says nothing, a retry policy field by field', () => {
    const file = {
      name: 'two',
      description: 'with defaults',
      defaults: {
        queue: 'slow',
        task_class: 'gpu',
        tags: ['b', 'a'],
        timeout_seconds: 90,
        priority: -3,
        retry: { max_attempts: 2, factor: 1.5 },
      },
      nodes: {
        plain: { task: 'x' },
        own: {
          task: 'x',
          queue: 'fast',
          task_class: 'cpu_long',
          tags: [],
          timeout_seconds: 0.25,
          priority: 7,
          retry: { initial_delay_seconds: 7_200, factor: 3, jitter: 0.5 },
        },
      },
    };
    const [own, plain] = definitionOf(file).nodes;
    expect(plain).toMatchObject({
      queue: 'slow',
      taskClass: 'gpu',
      tags: ['a', 'b'],
      timeoutMs: 90_000,
      priority: -3,
      retry: { maxAttempts: 2, initialDelayMs: 5_000, factor: 1.5, maxDelayMs: 3_600_000, jitter: 0 },
    });
    expect(own).toMatchObject({ queue: 'fast', taskClass: 'cpu_long', tags: [], timeoutMs: 250, priority: 7 });
    // The delay that was asked for is longer than the maximum that nobody asked for.
    const retry = { maxAttempts: 2, initialDelayMs: 7_200_000, factor: 3, maxDelayMs: 7_200_000, jitter: 0.5 };
    expect(own?.retry).toEqual(retry);
    expect(definitionOf(file).description).toBe('with defaults');
  });

  it('calls a service by its name or by an address', () => {
    const file = {
      name: 'calls',
      services: { one: 'host:1', unused: '[::1]:2' },
      nodes: {
        a: { grpc: { service: 'one', method: 'p.S/M' } },
        b: { grpc: { address: 'host:3', method: 'S/M' }, id: 'b' },
      },
    };
    expect(definitionOf(file).nodes.map(({ executor, kind }) => ({ ...executor, of: kind }))).toEqual([
      { type: 'grpc', address: 'host:1', method: 'p.S/M', of: 'p.S/M' },
      { type: 'grpc', address: 'host:3', method: 'S/M', of: 'S/M' },
    ]);
  });

  it('is the same as a list, in any order, with needs in any order', () => {
    const diamond = { d: ['b', 'c'], c: ['a'], b: ['a'], a: [] };
    const definition = definitionOf(nodesFile(diamond));
    expect(definition.nodes.map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd']);
    const turned = nodesFile({ a: [], b: ['a'], d: ['c', 'b'], c: ['a'] });
    expect(definitionOf(turned)).toEqual(definition);
    const list = Object.entries(turned.nodes as Broken).map(([id, node]) => ({ id, ...(node as object) }));
    expect(definitionOf({ ...turned, nodes: list })).toEqual(definition);
  });

  it('takes node, service and field names as data', () => {
    const text = `{"name": "constructor", "services": {"__proto__": "localhost:1"}, "nodes": {
      "__proto__": {"grpc": {"service": "__proto__", "method": "S/M"}, "input": {"__proto__": {"a": 1}}},
      "constructor": {"task": "toString", "needs": ["__proto__"]},
      "toString": {"task": "t", "needs": ["constructor"], "input": {"$from": "__proto__", "path": ["__proto__"]}},
      "🔋 ünïcode → node": {"task": "t", "needs": ["toString", "hasOwnProperty"]},
      "hasOwnProperty": {"task": "t"}
    }}`;
    const { nodes } = definitionOf(JSON.parse(text));
    const ids = ['__proto__', 'hasOwnProperty', 'constructor', 'toString', '🔋 ünïcode → node'];
    expect(nodes.map(({ id }) => id)).toEqual(ids);
    expect(JSON.stringify(nodes[0]?.input)).toBe('{"__proto__":{"a":1}}');
    expect(({} as Broken).a).toBeUndefined();
  });

  it('does not take a need, a service or a field from the prototype', () => {
    const file = { name: 'x', nodes: { a: { needs: ['toString'], grpc: { service: 'constructor', method: 'S/M' } } } };
    expect(problemsOf(file)).toEqual(['UNKNOWN_SERVICE nodes.a.grpc.service', 'UNKNOWN_NEED nodes.a.needs[0]']);
    expect(problemsOf(Object.create({ name: 'x', nodes: { a: { task: 't' } } }))).toEqual(['WRONG_TYPE $']);
  });
});

describe('a broken file', () => {
  const cases: [what: string, change: (file: Broken) => void, problem: Partial<Problem>][] = [
    ['a missing name', (file) => delete file.name, { path: 'name', code: 'MISSING_FIELD' }],
    ['an empty description', (file) => (file.description = ''), { path: 'description', code: 'EMPTY_FIELD' }],
    ['missing nodes', (file) => delete file.nodes, { path: 'nodes', code: 'MISSING_FIELD' }],
    [
      'no nodes',
      (file) => (file.nodes = []),
      { path: 'nodes', code: 'NO_NODES', message: '"nodes" is empty: there is nothing to run' },
    ],
    [
      'nodes of the wrong type',
      (file) => (file.nodes = 'a'),
      {
        path: 'nodes',
        code: 'WRONG_TYPE',
        message: '"nodes" must be an object of nodes by id, or a list of nodes, not a string',
      },
    ],
    ['a node of the wrong type', (file) => (file.nodes.x = null), { path: 'nodes.x', code: 'WRONG_TYPE' }],
    [
      'an unknown field of the file',
      (file) => (file.default = {}),
      { path: 'default', code: 'UNKNOWN_FIELD', hint: 'did you mean "defaults"?' },
    ],
    [
      'an unknown field of a node',
      (file) => (file.nodes.load.depends = []),
      { path: 'nodes.load.depends', code: 'UNKNOWN_FIELD', message: 'there is no field "depends" here' },
    ],
    [
      'a field spelled with a hyphen',
      (file) => (file.nodes.load['task-class'] = 'gpu'),
      { path: 'nodes.load["task-class"]', code: 'UNKNOWN_FIELD', hint: 'did you mean "task_class"?' },
    ],
    [
      'an unknown field of the defaults',
      (file) => (file.defaults = { needs: [] }),
      { path: 'defaults.needs', code: 'UNKNOWN_FIELD' },
    ],
    [
      'an unknown field of a retry policy',
      (file) => (file.nodes.load.retry = { attempts: 3 }),
      { path: 'nodes.load.retry.attempts', code: 'UNKNOWN_FIELD' },
    ],
    [
      'a need that is not a node',
      (file) => file.nodes.analyze.needs.push('lod'),
      {
        path: 'nodes.analyze.needs[1]',
        code: 'UNKNOWN_NEED',
        message: '"analyze" needs "lod", which is not a node',
        hint: 'did you mean "load"?',
      },
    ],
    [
      'a need given twice',
      (file) => file.nodes.analyze.needs.push('load'),
      { path: 'nodes.analyze.needs[1]', code: 'DUPLICATE_NEED', message: '"load" is needed twice' },
    ],
    [
      'a need of itself',
      (file) => file.nodes.analyze.needs.push('analyze'),
      {
        path: 'nodes.analyze.needs[1]',
        code: 'SELF_EDGE',
        message: '"analyze" needs itself: "analyze" → "analyze"',
      },
    ],
    [
      'needs that are a string',
      (file) => (file.nodes.load.needs = 'x'),
      { path: 'nodes.load.needs', code: 'WRONG_TYPE', hint: 'write it as a list: ["x"]' },
    ],
    [
      'a need that is no name',
      (file) => (file.nodes.load.needs = [7]),
      { path: 'nodes.load.needs[0]', code: 'WRONG_TYPE', hint: 'put it in quotes: "7"' },
    ],
    [
      'a cycle',
      (file) => (file.nodes.load.needs = ['report']),
      {
        path: 'nodes.analyze.needs',
        code: 'CYCLE',
        message: 'the needs run in a circle, each node waiting for the next: "analyze" → "load" → "report" → "analyze"',
      },
    ],
    [
      'neither task nor grpc',
      (file) => delete file.nodes.load.task,
      {
        path: 'nodes.load',
        code: 'NO_EXECUTOR',
        message: 'a node has one of "task", "grpc", "process", "http", "container", "workflow"; this one has none',
      },
    ],
    ['both task and grpc', (file) => (file.nodes.analyze.task = 'x'), { path: 'nodes.analyze', code: 'TWO_EXECUTORS' }],
    ['an empty task', (file) => (file.nodes.load.task = ''), { path: 'nodes.load.task', code: 'EMPTY_FIELD' }],
    [
      'a service that is not known',
      (file) => (file.nodes.analyze.grpc.service = 'analyser'),
      {
        path: 'nodes.analyze.grpc.service',
        code: 'UNKNOWN_SERVICE',
        message: 'the service "analyser" is not in "services"',
        hint: 'did you mean "analyzer"?',
      },
    ],
    [
      'no address',
      (file) => delete file.nodes.analyze.grpc.service,
      { path: 'nodes.analyze.grpc', code: 'MISSING_ADDRESS' },
    ],
    [
      'two addresses',
      (file) => (file.nodes.analyze.grpc.address = 'localhost:1'),
      { path: 'nodes.analyze.grpc', code: 'TWO_ADDRESSES' },
    ],
    [
      'a malformed address of a service',
      (file) => (file.services.analyzer = 'localhost'),
      {
        path: 'services.analyzer',
        code: 'MALFORMED_ADDRESS',
        message: 'the address of "analyzer" "localhost" has no port',
      },
    ],
    [
      'a malformed address of a call',
      (file) => (file.nodes.analyze.grpc = { address: '::1:5', method: 'S/M' }),
      { path: 'nodes.analyze.grpc.address', code: 'MALFORMED_ADDRESS' },
    ],
    [
      'a missing method',
      (file) => delete file.nodes.analyze.grpc.method,
      { path: 'nodes.analyze.grpc.method', code: 'MISSING_FIELD' },
    ],
    [
      'a malformed method',
      (file) => (file.nodes.analyze.grpc.method = '/S/M'),
      { path: 'nodes.analyze.grpc.method', code: 'MALFORMED_METHOD', message: '"/S/M" names no method' },
    ],
    [
      'an unknown task class',
      (file) => (file.nodes.load.task_class = 'gpu-slurm'),
      { path: 'nodes.load.task_class', code: 'UNKNOWN_TASK_CLASS', hint: 'did you mean "gpu_slurm"?' },
    ],
    [
      'a tag twice, in another case',
      (file) => (file.nodes.load.tags = ['gpu', 'GPU']),
      { path: 'nodes.load.tags[1]', code: 'DUPLICATE_TAG', message: 'the tag "GPU" is listed twice' },
    ],
    [
      'too many tags',
      (file) => (file.nodes.load.tags = Array.from({ length: 33 }, (_, index) => `t${index}`)),
      { path: 'nodes.load.tags', code: 'OUT_OF_RANGE' },
    ],
    [
      'a negative timeout',
      (file) => (file.nodes.load.timeout_seconds = -1),
      { path: 'nodes.load.timeout_seconds', code: 'OUT_OF_RANGE' },
    ],
    [
      'a priority that is no whole number',
      (file) => (file.nodes.load.priority = 1.5),
      {
        path: 'nodes.load.priority',
        code: 'OUT_OF_RANGE',
        message: '"priority" is 1.5; it must be a whole number from -1000 up to 1000',
      },
    ],
    [
      'no attempts',
      (file) => (file.defaults = { retry: { max_attempts: 0 } }),
      { path: 'defaults.retry.max_attempts', code: 'OUT_OF_RANGE' },
    ],
    [
      'a longest delay below the first',
      (file) => (file.nodes.load.retry = { initial_delay_seconds: 9, max_delay_seconds: 8 }),
      { path: 'nodes.load.retry.max_delay_seconds', code: 'OUT_OF_RANGE' },
    ],
    [
      'an id that disagrees with its key',
      (file) => (file.nodes.load.id = 'lode'),
      { path: 'nodes.load.id', code: 'ID_MISMATCH', message: 'the id "lode" disagrees with the key "load"' },
    ],
    ['an empty id', (file) => (file.nodes[''] = { task: 't' }), { path: 'nodes[""]', code: 'EMPTY_FIELD' }],
    [
      'a reference to nobody',
      (file) => (file.nodes.report.input = [{ $from: 'lood' }]),
      {
        path: 'nodes.report.input[0].$from',
        code: 'UNKNOWN_REFERENCE',
        message: 'the input refers to "lood", which is not a node',
        hint: 'did you mean "load"?',
      },
    ],
    [
      'a reference to a node that is not upstream',
      (file) => (file.nodes.load.input = { $from: 'report' }),
      {
        path: 'nodes.load.input.$from',
        code: 'REFERENCE_NOT_UPSTREAM',
        message: 'the input of "load" refers to "report", which need not have run before it',
        hint: 'add "report" to its "needs"',
      },
    ],
    [
      'a reference to itself',
      (file) => (file.nodes.load.input = { $from: 'load' }),
      {
        path: 'nodes.load.input.$from',
        code: 'REFERENCE_NOT_UPSTREAM',
        hint: 'a node cannot use its own output',
      },
    ],
    [
      'a reference with a path that is no list',
      (file) => (file.nodes.report.input = { $from: 'load', path: 'file' }),
      { path: 'nodes.report.input.path', code: 'MALFORMED_REFERENCE' },
    ],
    [
      'a reference with a negative index',
      (file) => (file.nodes.report.input = { $input: ['a', -1] }),
      { path: 'nodes.report.input.$input', code: 'MALFORMED_REFERENCE' },
    ],
    [
      'a reference with other fields',
      (file) => (file.nodes.report.input = { x: { $input: [], default: 1 } }),
      {
        path: 'nodes.report.input.x.default',
        code: 'MALFORMED_REFERENCE',
        message: 'a reference has no field "default"',
      },
    ],
    [
      'a reference to a number',
      (file) => (file.nodes.report.input = { $from: 3 }),
      { path: 'nodes.report.input.$from', code: 'MALFORMED_REFERENCE' },
    ],
    [
      'a reference to two things',
      (file) => (file.nodes.report.input = { $from: 'load', $input: [] }),
      { path: 'nodes.report.input', code: 'MALFORMED_REFERENCE' },
    ],
    [
      'an input that is not JSON',
      (file) => (file.nodes.load.input = { when: new Date(0) }),
      { path: 'nodes.load.input.when', code: 'NOT_JSON', message: 'an object that JSON does not know is not JSON' },
    ],
    [
      'an input that is not a number',
      (file) => (file.nodes.load.input = [1, Number.POSITIVE_INFINITY]),
      { path: 'nodes.load.input[1]', code: 'NOT_JSON', message: 'Infinity is not JSON' },
    ],
  ];
  it.each(cases)('reports %s, and only that', (_, change, problem) => {
    expect(broken(change)).toEqual([expect.objectContaining(problem)]);
  });

  it('reports a list’s missing and repeated ids', () => {
    const nodes = [{ task: 't' }, { id: 'a', task: 't' }, { id: 'b', task: 't', needs: ['a'] }, { id: 'a', task: 't' }];
    expect(problemsOf({ name: 'x', nodes })).toEqual(['MISSING_FIELD nodes[0].id', 'DUPLICATE_ID nodes[3].id']);
  });

  it('reports everything at once, in an order that stays', () => {
    const file: Broken = {
      nmae: 'x',
      services: { s: 'http://localhost' },
      nodes: {
        a: { needs: ['b', 'nobody', 'nobody'], task: 't', timeout_seconds: '5' },
        b: { needs: ['a', 'b'], grpc: { service: 's', method: 'M' }, queue: '' },
        c: { input: { $from: 'a' }, tsk: 't' },
      },
    };
    const lines = problemsOf(file);
    expect(lines).toEqual([
      'MISSING_FIELD name',
      'MALFORMED_ADDRESS services.s',
      'WRONG_TYPE nodes.a.timeout_seconds',
      'MALFORMED_METHOD nodes.b.grpc.method',
      'EMPTY_FIELD nodes.b.queue',
      'NO_EXECUTOR nodes.c',
      'UNKNOWN_FIELD nodes.c.tsk',
      'UNKNOWN_FIELD nmae',
      'UNKNOWN_NEED nodes.a.needs[1]',
      'DUPLICATE_NEED nodes.a.needs[2]',
      'SELF_EDGE nodes.b.needs[1]',
      'CYCLE nodes.a.needs',
      'REFERENCE_NOT_UPSTREAM nodes.c.input.$from',
    ]);
    expect(problemsOf(file)).toEqual(lines);
  });

  it('shows names so that they cannot write over a terminal', () => {
    const problem = problemList({ name: 'x', nodes: { a: { task: 't', needs: ['\u202eevil\u009b2J'] } } })[0];
    expect(problem?.message).toBe('"a" needs "\\u202eevil\\u009b2J", which is not a node');
    expect(problemsOf({ name: 'x', nodes: { 'a\u001b[2J': { task: 't' } } })).toEqual([
      'INVALID_NAME nodes["a\\u001b[2J"]',
    ]);
  });
});

describe('references', () => {
  it('reach every node upstream, however far, and none beside', () => {
    const file = nodesFile({ a: [], b: ['a'], c: ['b'], d: ['c'], side: ['a'] });
    file.nodes.d.input = { near: { $from: 'c' }, far: [{ $from: 'a', path: [] }], run: { $input: [] } };
    expect(problemsOf(file)).toEqual([]);
    file.nodes.d.input.beside = { $from: 'side' };
    expect(problemsOf(file)).toEqual(['REFERENCE_NOT_UPSTREAM nodes.d.input.beside.$from']);
  });

  it('may be many: each of 5 000 nodes in a row refers to the first 40', () => {
    const file = nodesFile({ n0: [] });
    for (let index = 1; index < 5_000; index++) {
      const input = Array.from({ length: 40 }, (_, target) => ({ $from: `n${target}` })).slice(0, index);
      file.nodes[`n${index}`] = { task: 't', needs: [`n${index - 1}`], input };
    }
    expect(problemsOf(file)).toEqual([]);
  });
});
