import process from 'node:process';
import { ExpressionError, type ExpressionScope, type ExpressionVariables, type JsonValue } from '@baton/domain';
import { describe, expect, it } from 'vitest';
import { createExpressions } from './create-expressions.ts';

const expressions = createExpressions();
/** Of this thread: how busy the machine is does not count. */
const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
};

const big = Array.from({ length: 1_000 }, (_, index) => index);
const variables: ExpressionVariables = {
  input: JSON.parse(
    '{"publish": true, "year": 2024, "rate": 2.5, "none": null, "tags": ["a", "b"], "__proto__": {"x": 1}, "a b": 7}',
  ) as JsonValue,
  nodes: new Map([
    ['reduce', { state: 'succeeded', output: { total: 12, rows: [{ n: 1 }, { n: 2.5 }] }, failure: null }],
    ['a b', { state: 'failed', output: null, failure: { type: 'TIMEOUT', message: 'too late' } }],
    ['big', { state: 'succeeded', output: big, failure: null }],
    ['huge', { state: 'succeeded', output: Array.from({ length: 100_000 }, (_, n) => ({ n })), failure: null }],
  ]),
  run: { id: 'run-1', execution: 2 },
  item: { name: 'x.csv', size: 10 },
  index: 3,
  matrix: { os: 'linux', size: 4 },
};

const value = (text: string): JsonValue => expressions.evaluate(text, variables);

function reason(text: string): string {
  try {
    return `no reason: ${JSON.stringify(value(text))}`;
  } catch (error) {
    expect(error).toBeInstanceOf(ExpressionError);
    return (error as ExpressionError).message;
  }
}

describe('an expression', () => {
  it.each<[string, JsonValue]>([
    ['nodes.reduce.output.total > 10 && input.publish', true],
    ['nodes.reduce.output.rows[1].n', 2.5],
    ['nodes["a b"].state == "failed" ? nodes["a b"].failure.message : "fine"', 'too late'],
    ['has(input.absent)', false],
    ['has(input.none) && input.none == null', true],
    ['has(nodes.reduce.output)', true],
    ['item.name + "-" + string(index)', 'x.csv-3'],
    ['matrix', { os: 'linux', size: 4 }],
    ['{"os": matrix.os, "twice": matrix.size * 2}', { os: 'linux', twice: 8 }],
    ['run.id + "/" + string(run.execution)', 'run-1/2'],
    ['input["a b"]', 7],
    ['input["__proto__"].x', 1],
    ['input.tags.map(t, t + "!")', ['a!', 'b!']],
    ['size(nodes.huge.output)', 100_000],
    ['nodes.huge.output[99999].n', 99_999],
    ['nodes.huge.output.filter(x, x.n % 50000 == 7).map(x, x.n)', [7, 50_007]],
    ['input.tags + ["c"]', ['a', 'b', 'c']],
    ['"a" in input.tags && !("z" in input.tags) && "year" in input', true],
    ['"a,b".split(",").join("-").upperAscii()', 'A-B'],
    ['"abc".matches("^a.c$")', true],
    ['timestamp("2024-01-02T00:00:00Z") - timestamp("2024-01-01T00:00:00Z")', '86400s'],
    ['timestamp("2024-01-02T00:00:00Z")', '2024-01-02T00:00:00Z'],
    ['[{"a": [1, 2.0]}] == [{"a": [1.0, 2]}]', true],
    ['{1: "one", true: 2u}', { '1': 'one', true: 2 }],
    ['dyn(input).year', 2024],
    ['type(input.year) == int && type(input.rate) == double', true],
  ])('%s is %j', (text, expected) => {
    expect(expressions.check(text, { items: text.includes('matrix') ? 'matrix' : 'for_each' })).toMatchObject({
      ok: true,
    });
    expect(value(text)).toEqual(expected);
  });

  it.each<[string, JsonValue]>([
    ['input.year + input.rate', 2026.5],
    ['input.rate - 1', 1.5],
    ['3 * input.rate', 7.5],
    ['input.rate / 2', 1.25],
    ['7 / 2', 3],
    ['7 / 2.0', 3.5],
    ['7.5 % 2', 1.5],
    ['7 % 4', 3],
    ['7.5 % 2.0', 1.5],
    ['2 == 2.0 && 2 < 2.5 && 3.0 >= 3', true],
    ['-input.rate', -2.5],
    ['9007199254740991', 9_007_199_254_740_991],
    ['1e300', 1e300],
  ])('mixes whole and floating point numbers: %s is %j', (text, expected) => {
    expect(value(text)).toBe(expected);
  });

  it('gives parts of values as they are', () => {
    expect(value('nodes.big.output')).toBe(big);
  });

  it.each([
    ['input.nothing', 'field not found: nothing'],
    ['input.year.x', /x/],
    ['nodes.gone.output', /gone/],
    ['input.tags[5]', 'the list has no item 5'],
    ['1 + "a"', 'found no matching overload for "+" applied to "(int, string)"'],
    ['1 / 0', /zero/],
    ['9007199254740992', /9007199254740992.*exactly/],
    ['0.0 / 0.0', /NaN/],
    ['b"abc"', /bytes/],
    ['int', /type/],
    ['input.publish && input.year', /bool/],
    ['{"1": 1, 1: 2}', /twice/],
  ])('without a value says why: %s', (text, message) => {
    expect(reason(text).replaceAll("'", '"')).toMatch(message);
  });
});

describe('looking at an expression', () => {
  const check = (text: string, scope: ExpressionScope = {}) => expressions.check(text, scope);

  it('finds the nodes that it names, each once', () => {
    const text = 'nodes.a.output.x + nodes["b c"].output + nodes.a.output.y + [1].map(x, nodes.c.output[x])[0]';
    expect(check(text)).toEqual({ ok: true, nodes: expect.toSatisfy((n) => [...n].sort().join() === 'a,b c,c') });
    expect(check('input.nodes.a.output')).toEqual({ ok: true, nodes: [] });
    expect(check('has(nodes.a.failure) || "nodes.b.output" == input.x')).toEqual({ ok: true, nodes: ['a'] });
  });

  it('finds the same in texts of one shape, with names of their own', () => {
    for (const id of ['n1', 'n2', 'output', 'NODE0', 'id']) {
      expect(check(`nodes.${id}.output.total > 1 && input.n < 2.5`)).toEqual({ ok: true, nodes: [id] });
      expect(check(`nodes["${id}"].output[0] == "${id}"`)).toEqual({ ok: true, nodes: [id] });
    }
    expect(check('nodes.true.output')).toMatchObject({ ok: false });
    expect(check("nodes['a'].state == 'x'")).toEqual({ ok: true, nodes: ['a'] });
    expect(check('nodes["a"]["outptu"]')).toMatchObject({ ok: false, hint: 'did you mean "output"?' });
    expect(check('nodes["""a"""].output')).toEqual({ ok: true, nodes: ['a'] });
    expect(check(String.raw`nodes[r"a\b"].output`)).toEqual({ ok: true, nodes: [String.raw`a\b`] });
  });

  it.each<[string, RegExp, RegExp | undefined, number | undefined]>([
    ['', /nothing in it/, undefined, undefined],
    ['1 +', /found \+/, undefined, 2],
    ['#', /expecting a value/, undefined, 0],
    ['inptu.year > 1', /"inptu" stands for nothing/, /did you mean "input"/, 0],
    ['reduce.output > 1', /"reduce"/, /write nodes\.reduce\.output/, 0],
    ['nodes', /no value/, undefined, 0],
    ['nodes.map(x, 1)', /no value/, undefined, undefined],
    ['nodes[input.x].output', /computed/, /nodes\.<id>/, undefined],
    ['nodes[index].output', /computed/, undefined, undefined],
    ['nodes.a', /nothing is named/, /output, state, failure/, undefined],
    ['has(nodes.a)', /nothing is named/, undefined, undefined],
    ['nodes.a.ouput', /no "ouput"/, /did you mean "output"/, undefined],
    ['run.started', /"run" has no "started"/, /id, execution/, undefined],
    ['item.x', /only in .* "for_each"/, /known here: input, nodes, run/, 0],
    ['matrix.os', /only in .* "matrix"/, undefined, undefined],
    ['index', /"for_each" or a "matrix"/, undefined, undefined],
    ['upperCase(input.x)', /no function "upperCase"/, undefined, undefined],
    ['input.x.start_with("a")', /no function/, /did you mean "startsWith"/, undefined],
    ['input.x.map(1)', /"map" is not used/, /list\.map/, undefined],
    ['has(input)', /"has" is not used/, undefined, undefined],
    ['[1].map(input, input)', /"input" has a meaning/, undefined, undefined],
    ['google.protobuf.Duration{seconds: 1}', /no messages/, undefined, undefined],
    [`${'(('.repeat(33)}1${'))'.repeat(33)}`, /brackets/, undefined, 64],
    [`1${'+1'.repeat(300)}`, /nested more than 200/, undefined, undefined],
    ['a ? b : c ? '.repeat(340), /found/, undefined, undefined],
    [`${'true ? 1 : '.repeat(300)}1`, /nested/, undefined, undefined],
    [`${' '.repeat(4_097)}1`, /4098 characters/, undefined, undefined],
  ])('refuses %s', (text, message, hint, offset) => {
    const checked = check(text);
    expect(checked).toMatchObject({ ok: false, message: expect.stringMatching(message) });
    if (checked.ok) return;
    if (hint) expect(checked.hint).toMatch(hint);
    if (offset !== undefined) expect(checked.offset).toBe(offset);
    if (!/only in/.test(checked.message)) expect(reason(text)).not.toMatch(/^no reason/);
  });

  it('knows each fan-out’s own names', () => {
    expect(check('item.x + index', { items: 'for_each' }).ok).toBe(true);
    expect(check('matrix.x + index', { items: 'matrix' }).ok).toBe(true);
    expect(check('matrix.x', { items: 'for_each' }).ok).toBe(false);
    expect(check('item.x', { items: 'matrix' }).ok).toBe(false);
    expect(check('[1].map(item2, item2)', {}).ok).toBe(true);
  });

  it('costs little for each of 10 000 that differ in names and numbers', () => {
    const began = cpuMs();
    for (let n = 0; n < 10_000; n++) {
      expect(check(`nodes.n${n}.output.total > ${n} && input.publish`)).toEqual({ ok: true, nodes: [`n${n}`] });
    }
    // Some 60 ms by shape; 1 s and more if each were parsed.
    expect(cpuMs() - began).toBeLessThan(800);
  });
});

describe('a hostile expression', () => {
  const list = `[${big.slice(0, 60).join(',')}]`;
  it.each([
    ['items in items in items', 'nodes.big.output.map(a, nodes.big.output.map(b, nodes.big.output.map(c, 1)))'],
    ['no call in any loop', 'nodes.big.output.all(a, nodes.big.output.all(b, nodes.big.output.all(c, true)))'],
    ['loops over literals', `${list}.all(a, ${list}.all(b, ${list}.all(c, ${list}.all(d, ${list}.all(e, true)))))`],
    [
      'errors that || swallows',
      'nodes.big.output.exists(a, nodes.big.output.all(b, nodes.big.output.all(c, 1/0 > 0)))',
    ],
    [
      'errors of look-ups',
      'nodes.big.output.exists(a, nodes.big.output.exists(b, nodes.big.output.all(c, input.nope)))',
    ],
    ['loops that end at once over long lists', 'nodes.huge.output.all(a, nodes.huge.output.exists(b, true))'],
    ['a text doubled', `["aaaaaaaa"]${'.map(a, a + a)'.repeat(60)}`],
    ['a list doubled', `[[1]]${'.map(a, a + a)'.repeat(60)}`],
    ['a tree doubled', `[[1]]${'.map(a, [a, a])'.repeat(60)}`],
    ['trees compared', `[[1]]${'.map(a, [a, a])'.repeat(40)} == [[1]]${'.map(a, [a, a])'.repeat(40)}`],
    ['trees looked for', `[[1]]${'.map(a, [a, a])'.repeat(40)} in [[[1]]${'.map(a, [a, a])'.repeat(40)}]`],
    ['a text replaced', `["aaaaaaaa"]${'.map(a, a + a)'.repeat(16)}.map(a, a.replace("a", a))`],
    ['texts joined', `["aaaaaaaa"]${'.map(a, a + a)'.repeat(16)}.map(a, nodes.big.output.map(b, a).join(a))`],
    ['a heavy pattern', '"aaaa".matches("((a{100}){100}){100}")'],
    ['patterns over a long text', `["aaaaaaaa"]${'.map(a, a + a)'.repeat(16)}.map(a, a.matches("(a*)*(a*)*b"))`],
    [
      'texts compared again and again',
      `["aaaaaaaa"]${'.map(a, a + a)'.repeat(16)}.map(a, nodes.huge.output.map(b, a < a + "b"))`,
    ],
  ])('is given up soon: %s', (_, text) => {
    const began = cpuMs();
    expect(reason(text)).toMatch(/too many steps|characters|nested|repeat|pattern/);
    // The bound is on work, not on time: some tenths of a second of a core.
    expect(cpuMs() - began).toBeLessThan(3_000);
  });

  it('leaves nothing behind for the next', () => {
    reason('nodes.big.output.map(a, nodes.big.output.map(b, nodes.big.output.map(c, 1)))');
    expect(value('nodes.huge.output.map(x, x.n).size()')).toBe(100_000);
  });
});
