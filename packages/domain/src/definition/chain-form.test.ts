import { describe, expect, it } from 'vitest';
import { type Broken, chainFile, definitionOf, energyFile, parseDefinition, problemsOf } from './definition.fixture.ts';
import type { Problem } from './problem.ts';

function brokenEnergy(change: (file: Broken) => void): Problem[] {
  const file = energyFile();
  change(file);
  const parsed = parseDefinition(file);
  return parsed.ok ? [] : [...parsed.problems];
}

describe('a sound chain', () => {
  it('runs in the order of its links, whatever the order of the list', () => {
    const file = energyFile();
    const reversed = { ...file, containers: Object.fromEntries(Object.entries(file.containers).reverse()) };
    const order = ['energy-generator', 'energy-analyzer', 'report-generator'];
    expect(definitionOf(file).nodes.map(({ id }) => id)).toEqual(order);
    expect(definitionOf(reversed)).toEqual(definitionOf(file));
  });

  it('becomes calls of ContainerExecutor/Execute with the paths exactly as configured', () => {
    const [generator, analyzer] = definitionOf(energyFile()).nodes;
    expect(generator).toEqual({
      id: 'energy-generator',
      needs: [],
      executor: { type: 'grpc', address: 'localhost:50051', method: 'ContainerExecutor/Execute' },
      kind: 'ContainerExecutor/Execute',
      queue: 'default',
      taskClass: 'cpu_short',
      tags: [],
      input: { input_file: './data/../data/input.csv', output_file: 'data/output1.json' },
      retry: { maxAttempts: 4, initialDelayMs: 5_000, factor: 2, maxDelayMs: 3_600_000, jitter: 0 },
      timeoutMs: 30_000,
      priority: 0,
    });
    expect(analyzer).toMatchObject({ needs: ['energy-generator'], timeoutMs: 60_000 });
    expect(definitionOf(energyFile())).toMatchObject({ name: 'energy-pipeline', form: 'chain' });
  });

  it('may have services that no container uses', () => {
    expect(brokenEnergy((file) => (file.service_registry.spare = '[::1]:65535'))).toEqual([]);
  });

  it('takes node names as data', () => {
    const file = JSON.parse(
      JSON.stringify(chainFile({ constructor: 'PROTO', toString: null })).replaceAll('"toString"', '"hasOwnProperty"'),
    );
    // A literal { __proto__: … } would set the prototype; text does not.
    const text = JSON.stringify(chainFile({ constructor: 'PROTO', PROTO: 'toString', toString: null }));
    const definition = definitionOf(JSON.parse(text.replaceAll('PROTO', '__proto__')));
    expect(definition.nodes.map(({ id }) => id)).toEqual(['constructor', '__proto__', 'toString']);
    expect(problemsOf(file)).toContain('UNKNOWN_NEXT_NODE containers.constructor.next_node');
  });
});

describe('a broken chain', () => {
  const cases: [what: string, change: (file: Broken) => void, problem: Partial<Problem>][] = [
    [
      'a missing name',
      (file) => delete file.workflow_name,
      { path: 'workflow_name', code: 'MISSING_FIELD', message: 'the field "workflow_name" is missing' },
    ],
    [
      'an empty name',
      (file) => (file.workflow_name = '  '),
      { path: 'workflow_name', code: 'EMPTY_FIELD', message: '"workflow_name" is empty' },
    ],
    [
      'a name that is a number',
      (file) => (file.workflow_name = 7),
      { path: 'workflow_name', code: 'WRONG_TYPE', hint: 'put it in quotes: "7"' },
    ],
    [
      'a name with a control character',
      (file) => (file.workflow_name = 'a\u0000b'),
      { path: 'workflow_name', code: 'INVALID_NAME' },
    ],
    [
      'a name too long',
      (file) => (file.workflow_name = 'x'.repeat(201)),
      { path: 'workflow_name', code: 'INVALID_NAME' },
    ],
    [
      'an unknown mode',
      (file) => (file.execution_mode = 'docker'),
      {
        path: 'execution_mode',
        code: 'UNKNOWN_EXECUTION_MODE',
        message: 'the execution mode "docker" is not known',
        hint: 'the only one is "grpc"',
      },
    ],
    ['a missing mode', (file) => delete file.execution_mode, { path: 'execution_mode', code: 'MISSING_FIELD' }],
    ['no registry', (file) => delete file.service_registry, { path: 'service_registry', code: 'MISSING_FIELD' }],
    [
      'a registry that is a list',
      (file) => (file.service_registry = []),
      {
        path: 'service_registry',
        code: 'WRONG_TYPE',
        message: '"service_registry" must be an object, not a list',
      },
    ],
    [
      'a service without an address',
      (file) => delete file.service_registry['energy-analyzer'],
      {
        path: 'service_registry["energy-analyzer"]',
        code: 'MISSING_ADDRESS',
        message: 'the container "energy-analyzer" has no address in "service_registry"',
      },
    ],
    [
      'an empty address',
      (file) => (file.service_registry['energy-analyzer'] = ''),
      { path: 'service_registry["energy-analyzer"]', code: 'EMPTY_FIELD' },
    ],
    [
      'a malformed address',
      (file) => (file.service_registry['energy-analyzer'] = 'http://localhost:50052/x'),
      {
        path: 'service_registry["energy-analyzer"]',
        code: 'MALFORMED_ADDRESS',
        message: 'the address of "energy-analyzer" "http://localhost:50052/x" has a scheme',
        hint: 'leave the scheme out: "localhost:50052"',
      },
    ],
    ['no containers', (file) => delete file.containers, { path: 'containers', code: 'MISSING_FIELD' }],
    ['empty containers', (file) => (file.containers = {}), { path: 'containers', code: 'NO_NODES' }],
    ['containers in a list', (file) => (file.containers = []), { path: 'containers', code: 'WRONG_TYPE' }],
    [
      'a container that is a string',
      (file) => (file.containers['report-generator'] = 'x'),
      { path: 'containers["report-generator"]', code: 'WRONG_TYPE' },
    ],
    [
      'a missing id',
      (file) => delete file.containers['report-generator'].id,
      { path: 'containers["report-generator"].id', code: 'MISSING_FIELD' },
    ],
    [
      'an id that disagrees with its key',
      (file) => (file.containers['report-generator'].id = 'reporter'),
      {
        path: 'containers["report-generator"].id',
        code: 'ID_MISMATCH',
        message: 'the id "reporter" disagrees with the key "report-generator"',
      },
    ],
    [
      'an empty input file',
      (file) => (file.containers['report-generator'].input_file = ''),
      { path: 'containers["report-generator"].input_file', code: 'EMPTY_FIELD' },
    ],
    [
      'a missing output file',
      (file) => delete file.containers['report-generator'].output_file,
      { path: 'containers["report-generator"].output_file', code: 'MISSING_FIELD' },
    ],
    [
      'a missing next node',
      (file) => delete file.containers['report-generator'].next_node,
      {
        path: 'containers["report-generator"].next_node',
        code: 'MISSING_FIELD',
        hint: 'write null where the chain ends',
      },
    ],
    [
      'an empty next node',
      (file) => (file.containers['report-generator'].next_node = ''),
      { path: 'containers["report-generator"].next_node', code: 'EMPTY_FIELD' },
    ],
    [
      'a next node that is a number',
      (file) => (file.containers['report-generator'].next_node = 3),
      { path: 'containers["report-generator"].next_node', code: 'WRONG_TYPE' },
    ],
    [
      'a timeout of zero',
      (file) => (file.containers['report-generator'].timeout_seconds = 0),
      {
        path: 'containers["report-generator"].timeout_seconds',
        code: 'OUT_OF_RANGE',
        message: '"timeout_seconds" is 0; it must be a number greater than 0, up to 2592000',
      },
    ],
    [
      'a timeout in quotes',
      (file) => (file.containers['report-generator'].timeout_seconds = '30'),
      {
        path: 'containers["report-generator"].timeout_seconds',
        code: 'WRONG_TYPE',
        hint: 'leave out the quotes: 30',
      },
    ],
    [
      'a timeout that is no number',
      (file) => (file.containers['report-generator'].timeout_seconds = Number.NaN),
      { path: 'containers["report-generator"].timeout_seconds', code: 'WRONG_TYPE' },
    ],
    [
      'a timeout too long',
      (file) => (file.containers['report-generator'].timeout_seconds = 1e12),
      { path: 'containers["report-generator"].timeout_seconds', code: 'OUT_OF_RANGE' },
    ],
    [
      'an unknown field',
      (file) => (file.containers['report-generator'].timeout_second = 3),
      {
        path: 'containers["report-generator"].timeout_second',
        code: 'UNKNOWN_FIELD',
        message: 'there is no field "timeout_second" here',
        hint: 'did you mean "timeout_seconds"?',
      },
    ],
    [
      'an unknown field like no other',
      (file) => (file.volumes = []),
      {
        path: 'volumes',
        code: 'UNKNOWN_FIELD',
        hint: 'known here: workflow_name, start_node, execution_mode, service_registry, containers',
      },
    ],
    [
      'an unknown start',
      (file) => (file.start_node = 'energy-generatr'),
      {
        path: 'start_node',
        code: 'UNKNOWN_START_NODE',
        message: 'the start node "energy-generatr" is not in "containers"',
        hint: 'did you mean "energy-generator"?',
      },
    ],
    ['a missing start', (file) => delete file.start_node, { path: 'start_node', code: 'MISSING_FIELD' }],
    [
      'a start inherited by every object',
      (file) => (file.start_node = 'constructor'),
      { path: 'start_node', code: 'UNKNOWN_START_NODE' },
    ],
  ];
  it.each(cases)('reports %s, and only that', (_, change, problem) => {
    const problems = brokenEnergy(change);
    expect(problems).toEqual([expect.objectContaining(problem)]);
  });

  it('suggests for a missing address one that no container uses, and none for a short name', () => {
    const hintsFor = (links: Readonly<Record<string, string | null>>, registry: readonly string[]) => {
      const service_registry = Object.fromEntries(registry.map((id) => [id, 'localhost:1']));
      const parsed = parseDefinition({ ...chainFile(links), service_registry });
      return parsed.ok ? [] : parsed.problems.map(({ code, hint }) => [code, hint]);
    };
    const plain = [['MISSING_ADDRESS', 'add it as "host:port"']];
    expect(hintsFor({ load1: 'load2', load2: null }, ['load1'])).toEqual(plain);
    expect(hintsFor({ a: 'b', b: null }, ['a'])).toEqual(plain);
    expect(hintsFor({ a: 'b', b: null }, ['a', 'c'])).toEqual(plain);
    expect(hintsFor({ load1: 'load2', load2: null }, ['load1', 'load_2'])).toEqual([
      ['MISSING_ADDRESS', 'did you mean "load_2"?'],
    ]);
  });

  it('reports an unknown next node, and what is cut off by it', () => {
    const problems = brokenEnergy((file) => (file.containers['energy-analyzer'].next_node = 'report-generators'));
    expect(problems).toEqual([
      {
        path: 'containers["energy-analyzer"].next_node',
        code: 'UNKNOWN_NEXT_NODE',
        message: 'the next node "report-generators" is not in "containers"',
        hint: 'did you mean "report-generator"?',
      },
      {
        path: 'containers["report-generator"]',
        code: 'UNREACHABLE_NODE',
        message: 'the links from "energy-generator" never reach "report-generator"',
        hint: 'the links end at containers["energy-analyzer"].next_node',
      },
    ]);
  });

  it('reports each cycle once with its path, reachable or not, in any list order', () => {
    const links = { s: 'b', b: 'a', a: 'c', c: 'b', y: 'x', x: 'y', lone: 'lone' };
    const parsed = parseDefinition(chainFile(links));
    const cycles = parsed.ok ? [] : parsed.problems.filter(({ code }) => code === 'CYCLE' || code === 'SELF_EDGE');
    expect(cycles).toMatchObject([
      { path: 'containers.lone.next_node', message: '"lone" leads to itself: "lone" → "lone"' },
      { path: 'containers.b.next_node', message: 'the links run in a circle: "a" → "c" → "b" → "a"' },
      { path: 'containers.y.next_node', message: 'the links run in a circle: "x" → "y" → "x"' },
    ]);
    const unreachable = problemsOf(chainFile(links)).filter((problem) => problem.startsWith('UNREACHABLE'));
    expect(unreachable).toEqual(['y', 'x', 'lone'].map((id) => `UNREACHABLE_NODE containers.${id}`));
    const reversed = { ...chainFile(Object.fromEntries(Object.entries(links).reverse())), start_node: 's' };
    const again = parseDefinition(reversed);
    expect(again.ok ? [] : again.problems.map(({ message }) => message)).toEqual(
      expect.arrayContaining(cycles.map(({ message }) => message)),
    );
  });

  it('reports everything at once, in an order that stays', () => {
    const change = (file: Broken): void => {
      file.workflow_name = '';
      file.execution_mode = 'subprocess';
      file.service_registry['energy-generator'] = 'localhost:0';
      delete file.service_registry['report-generator'];
      file.containers['energy-generator'].id = 'generator';
      file.containers['energy-generator'].timeout_seconds = -1;
      file.containers['energy-analyzer'].next_node = 'energy-generator';
      file.containers['energy-analyzer'].inputfile = 'x';
      delete file.containers['energy-analyzer'].input_file;
      file.version = 2;
    };
    const lines = brokenEnergy(change).map(({ code, path }) => `${code} ${path}`);
    expect(lines).toEqual([
      'EMPTY_FIELD workflow_name',
      'UNKNOWN_EXECUTION_MODE execution_mode',
      'MALFORMED_ADDRESS service_registry["energy-generator"]',
      'ID_MISMATCH containers["energy-generator"].id',
      'OUT_OF_RANGE containers["energy-generator"].timeout_seconds',
      'MISSING_FIELD containers["energy-analyzer"].input_file',
      'UNKNOWN_FIELD containers["energy-analyzer"].inputfile',
      'UNKNOWN_FIELD version',
      'MISSING_ADDRESS service_registry["report-generator"]',
      'CYCLE containers["energy-generator"].next_node',
      'UNREACHABLE_NODE containers["report-generator"]',
    ]);
    expect(brokenEnergy(change).map(({ code, path }) => `${code} ${path}`)).toEqual(lines);
  });

  it('survives every container being of the wrong type', () => {
    for (const value of [null, 1, 'x', true, [], undefined, () => 1, new Date(0), 1n, Symbol('x')]) {
      expect(problemsOf({ ...energyFile(), containers: { a: value } })).toContain('WRONG_TYPE containers.a');
    }
  });
});

describe('a long chain', () => {
  it('of 20 000 nodes is read without recursion, its cycle shown in part', () => {
    const ids = Array.from({ length: 20_000 }, (_, index) => `n${index}`);
    const links = Object.fromEntries(ids.map((id, index) => [id, ids[index + 1] ?? null]));
    expect(definitionOf(chainFile(links)).nodes.map(({ id }) => id)).toEqual(ids);
    const circle = parseDefinition(chainFile({ ...links, n19999: 'n0' }));
    const problem = circle.ok ? undefined : circle.problems[0];
    expect(problem).toMatchObject({ code: 'CYCLE', path: 'containers.n19999.next_node' });
    expect(problem?.message).toContain('"n9" → … 19987 more … → "n19997" → "n19998" → "n19999" → "n0"');
  });

  it('of more than 20 000 nodes is refused', () => {
    const links = Object.fromEntries(Array.from({ length: 20_001 }, (_, index) => [`n${index}`, null]));
    expect(problemsOf(chainFile(links))).toEqual(['TOO_MANY_NODES containers']);
  });
});
