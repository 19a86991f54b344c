import { describe, expect, it } from 'vitest';
import {
  type Broken,
  chainFile,
  energyFile,
  nodesFile,
  parseDefinition,
  parseDefinitionJson,
  problemsOf,
} from './definition.fixture.ts';
import { MAX_JSON_DEPTH } from './json.ts';

describe('the form of a file', () => {
  it('is told by its fields', () => {
    expect(parseDefinition(energyFile())).toMatchObject({ ok: true, definition: { form: 'chain' } });
    expect(parseDefinition(nodesFile({ a: [] }))).toMatchObject({ ok: true, definition: { form: 'nodes' } });
  });

  it('is told even where the nodes are missing', () => {
    const { containers: _, ...chain } = energyFile();
    expect(problemsOf(chain)).toEqual(['MISSING_FIELD containers']);
    expect(problemsOf({ name: 'x' })).toEqual(['MISSING_FIELD nodes']);
  });

  it('is a problem when it could be both or neither', () => {
    expect(problemsOf({ ...energyFile(), nodes: {} })).toEqual(['AMBIGUOUS_FORM $']);
    expect(problemsOf({})).toEqual(['UNKNOWN_FORM $']);
    expect(problemsOf({ steps: [] })).toEqual(['UNKNOWN_FORM $']);
  });

  it.each([[null], [[]], ['text'], [3], [undefined], [new Map()], [() => 1]])('is a problem for %j', (value) => {
    expect(problemsOf(value)).toEqual(['WRONG_TYPE $']);
  });
});

describe('a file of any size', () => {
  it('may be as deep as the bound and no deeper', () => {
    const nested = (levels: number): unknown => {
      let value: unknown = 'x';
      for (let level = 0; level < levels; level++) value = [value];
      return { name: 'x', nodes: { a: { task: 't', input: value } } };
    };
    // The file, its nodes and the node are three levels.
    expect(problemsOf(nested(MAX_JSON_DEPTH - 3))).toEqual([]);
    const path = `nodes.a.input${'[0]'.repeat(MAX_JSON_DEPTH - 3)}`;
    expect(problemsOf(nested(MAX_JSON_DEPTH - 2))).toEqual([`TOO_DEEP ${path}`]);
    expect(problemsOf(nested(200_000))).toEqual([`TOO_DEEP ${path}`]);
  });

  it('may not contain itself, nor share its way to a huge value', () => {
    const self: Broken = { name: 'x', nodes: {} };
    self.nodes.self = self;
    expect(problemsOf(self)[0]).toMatch(/^TOO_DEEP /);
    let laughs: unknown = ['ha'];
    for (let level = 0; level < 20; level++) laughs = Array.from({ length: 10 }, () => laughs);
    expect(problemsOf({ name: 'x', nodes: { a: { task: 't', input: laughs } } })).toEqual(['TOO_LARGE $']);
  });

  it('is refused above the number of nodes and of needs', () => {
    const many = (count: number): Record<string, string[]> =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`n${index}`, []]));
    expect(problemsOf(nodesFile(many(20_001)))).toEqual(['TOO_MANY_NODES nodes']);
    const needs = many(700);
    for (let index = 0; index < 700; index++) {
      needs[`n${index}`] = Array.from({ length: index }, (_, need) => `n${need}`);
    }
    expect(problemsOf(nodesFile(needs))).toEqual(['TOO_MANY_EDGES nodes']);
  });

  it('with 10 000 nodes and 100 000 needs is read in well under a second of work', () => {
    const needs: Record<string, string[]> = {};
    for (let index = 0; index < 10_010; index++) {
      const from = Math.max(0, index - 10);
      needs[`n${index}`] = Array.from({ length: index - from }, (_, need) => `n${from + need}`);
    }
    const file = nodesFile(needs);
    const began = performance.now();
    const parsed = parseDefinition(file);
    const tookMs = performance.now() - began;
    expect(parsed.ok && parsed.definition.nodes.length).toBe(10_010);
    // Some 200 ms on one idle core; the bound only has to tell linear from quadratic on a busy machine.
    expect(tookMs).toBeLessThan(3_000);
  });

  it('reports 10 000 wrong names without comparing each with each, and then how many more', () => {
    const needs: Record<string, string[]> = {};
    for (let index = 0; index < 10_001; index++) needs[`node-${index}`] = [`nobody-${index}`];
    const parsed = parseDefinition(nodesFile(needs));
    const problems = parsed.ok ? [] : parsed.problems;
    expect(problems).toHaveLength(10_001);
    expect(problems.at(-1)).toEqual({ path: '$', code: 'MORE_PROBLEMS', message: 'and 1 more problems' });
  });
});

describe('JSON text', () => {
  it('is read and checked in one step', () => {
    expect(parseDefinitionJson(JSON.stringify(chainFile({ a: null })))).toMatchObject({ ok: true });
    expect(parseDefinitionJson('{"name": "x"}')).toMatchObject({ ok: false, problems: [{ path: 'nodes' }] });
  });

  it('with a node given twice is refused, where JSON.parse would drop one', () => {
    const text = '{"name": "x", "nodes": {"a": {"task": "t"}, "a": {"task": "u"}}}';
    expect(parseDefinitionJson(text)).toMatchObject({
      ok: false,
      problems: [{ path: 'nodes.a', code: 'DUPLICATE_KEY', line: 1, column: 45 }],
    });
  });
});
