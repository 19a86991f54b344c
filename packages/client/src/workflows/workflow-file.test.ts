import { MAX_JSON_DEPTH } from '@baton/domain';
import { describe, expect, it } from 'vitest';
import { checkWorkflowFile, parseWorkflowFile, type WorkflowFileOptions } from './workflow-file.ts';

function read(text: string, options?: WorkflowFileOptions): unknown {
  const parsed = parseWorkflowFile(text, options);
  return parsed.ok ? parsed.value : parsed.problems;
}

/** The problems of a YAML text, as `CODE path line:column`. */
function problemsOf(text: string): string[] {
  const parsed = parseWorkflowFile(text, { format: 'yaml' });
  return parsed.ok ? [] : parsed.problems.map(({ code, path, line, column }) => `${code} ${path} ${line}:${column}`);
}

describe('a workflow file', () => {
  it('is JSON or YAML by what it is said to be, by its name, or by its first sign', () => {
    expect(read('{"a": 1}')).toEqual({ a: 1 });
    expect(read('a: 1')).toEqual({ a: 1 });
    expect(read('{a: 1}', { fileName: 'x.YML' })).toEqual({ a: 1 });
    expect(read('{a: 1}', { fileName: 'x.json' })).toMatchObject([{ code: 'SYNTAX_ERROR', line: 1, column: 2 }]);
    expect(read('{a: 1}', { fileName: 'x.json', format: 'yaml' })).toEqual({ a: 1 });
  });

  it('means the same in either format', () => {
    const yaml = [
      '# the smallest pipeline',
      'name: two',
      'nodes:',
      '  first: { task: load }',
      '  second:',
      '    task: report',
      '    needs: [first]',
      '    input: { from: { $from: first, path: [files, 0] } }',
      '    timeout_seconds: 1.5',
    ].join('\n');
    const json = JSON.stringify(read(yaml));
    expect(read(json)).toEqual(read(yaml));
    expect(checkWorkflowFile(yaml)).toMatchObject({ ok: true });
  });
});

describe('a YAML file', () => {
  it('gives plain values', () => {
    const text = 'a: [1, 0x1f, 1.5, -0.0, true, null, ~, "1", yes, 2026-01-01, 0o17]\nb: |\n  two\n  lines\nc:\n';
    expect(read(text)).toEqual({
      a: [1, 31, 1.5, -0, true, null, null, '1', 'yes', '2026-01-01', 15],
      b: 'two\nlines\n',
      c: null,
    });
  });

  it('keeps names as they are written', () => {
    const value = read('nodes:\n  __proto__: {polluted: 1}\n  01: a\n  1: b\n  null: c\n  true: d\n  1.0: e\n');
    const nodes = (value as { nodes: object }).nodes;
    expect(new Set(Object.keys(nodes))).toEqual(new Set(['__proto__', '01', '1', 'null', 'true', '1.0']));
    expect(Object.getPrototypeOf(nodes)).toBe(Object.prototype);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  it('refuses a key given twice, also one written another way', () => {
    expect(problemsOf('nodes:\n  a: 1\n  b: 2\n  "a": 3\n__proto__: 1\n"__proto__": 2\n')).toEqual([
      'DUPLICATE_KEY nodes.a 4:3',
      'DUPLICATE_KEY __proto__ 6:1',
    ]);
    expect(problemsOf('{1: a, "1": b}')).toEqual(['DUPLICATE_KEY ["1"] 1:8']);
  });

  it.each([
    ['a: [1, 2', 'SYNTAX_ERROR $ 1:9'],
    ['a: b\n c: d\n', 'SYNTAX_ERROR $ 1:4'],
    ['a:\n\tb: 1\n', 'SYNTAX_ERROR $ 2:1'],
    ['a: "x', 'SYNTAX_ERROR $ 1:6'],
    ['a: !secret x', 'SYNTAX_ERROR $ 1:4'],
    ['', 'EMPTY_FIELD $ 1:1'],
    ['# only a comment\n', 'EMPTY_FIELD $ 1:1'],
    ['a: 1\n---\nb: 2\n', 'UNSUPPORTED_YAML $ 3:1'],
    ['a: 9007199254740993', 'INEXACT_NUMBER a 1:4'],
    ['a: [.inf]', 'INEXACT_NUMBER a[0] 1:5'],
    ['a: .nan', 'INEXACT_NUMBER a 1:4'],
    ['a: *b', 'UNKNOWN_ALIAS a 1:4'],
    ['a: &a [*a]', 'UNKNOWN_ALIAS a[0] 1:8'],
    ['a: &x 1\nb: {<<: *x}', 'UNSUPPORTED_YAML b 2:5'],
    ['? [a]\n: 1', 'UNSUPPORTED_YAML $ 1:3'],
    ['? {a: 1}\n: 1', 'UNSUPPORTED_YAML $ 1:3'],
    [': 1', 'UNSUPPORTED_YAML $ 1:1'],
  ])('%j is refused: %s', (text, problem) => {
    expect(problemsOf(text)[0]).toBe(problem);
  });

  it('says everything that is wrong with its values at once', () => {
    expect(problemsOf('a: .nan\nb: *x\nb: 1\n')).toEqual([
      'INEXACT_NUMBER a 1:4',
      'UNKNOWN_ALIAS b 2:4',
      'DUPLICATE_KEY b 3:1',
    ]);
  });

  it('puts in what an alias stands for: the newest anchor before it', () => {
    expect(read('a: &x {n: 1}\nb: *x\nc: &x 2\nd: [*x, *x]')).toEqual({ a: { n: 1 }, b: { n: 1 }, c: 2, d: [2, 2] });
  });

  it('counts aliases where they are used, so that a small file stays a small value', () => {
    const names = 'abcdefghij'.split('');
    const lines = names.map((name, index) => {
      const item = index === 0 ? 'ha' : `*${names[index - 1]}`;
      return `${name}: &${name} [${Array(9).fill(item).join(', ')}]`;
    });
    expect(problemsOf(lines.join('\n'))[0]).toMatch(/^TOO_LARGE g /);
    const deep = Array.from({ length: MAX_JSON_DEPTH + 1 }, (_, index) =>
      index === 0 ? 'n0: &n0 [x]' : `n${index}: &n${index} [*n${index - 1}]`,
    );
    expect(problemsOf(deep.join('\n'))[0]).toMatch(/^TOO_DEEP /);
  });

  it('is bounded in depth, in every way to go deep', () => {
    const flow = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
    const block = (levels: number): string =>
      Array.from({ length: levels }, (_, level) => `${' '.repeat(level)}a:`).join('\n');
    for (const nested of [flow, block, (levels: number) => '- '.repeat(levels)]) {
      expect(problemsOf(nested(MAX_JSON_DEPTH))).toEqual([]);
      expect(problemsOf(nested(MAX_JSON_DEPTH + 1))[0]).toMatch(/^TOO_DEEP /);
      expect(problemsOf(nested(3_000))[0]).toMatch(/^TOO_DEEP /);
    }
    expect(problemsOf('['.repeat(1_000_000))[0]).toMatch(/^TOO_DEEP /);
  });

  it('is bounded in problems', () => {
    expect(problemsOf(`a: [${Array(500).fill('.nan').join(', ')}]`)).toHaveLength(100);
  });
});
