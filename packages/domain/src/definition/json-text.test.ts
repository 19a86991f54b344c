import { describe, expect, it } from 'vitest';
import { seededRandom } from './definition.fixture.ts';
import { MAX_JSON_DEPTH } from './json.ts';
import { MAX_TEXT_LENGTH, MAX_TEXT_PROBLEMS, parseJsonText } from './json-text.ts';

describe('JSON text', () => {
  it.each([
    '{}',
    '[]',
    '""',
    ' \t\r\n{ "a" : [ 1 , -0.5e-3 , 1E2 , true , false , null , "\\u00e9\\n\\\\ \\"" ] , "" : { } } \n',
    '{"__proto__": {"constructor": []}, "toString": 1}',
    '9007199254740991',
    '"🔋"',
  ])('%s is what JSON.parse makes of it', (text) => {
    const parsed = parseJsonText(text);
    expect(parsed.ok && JSON.stringify(parsed.value)).toBe(JSON.stringify(JSON.parse(text)));
  });

  it('keeps __proto__ as a key and pollutes nothing', () => {
    const parsed = parseJsonText('{"__proto__": {"polluted": true}}');
    expect(parsed.ok && Object.keys(parsed.value as object)).toEqual(['__proto__']);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it('may begin with a byte order mark', () => {
    expect(parseJsonText('\ufeff{"a": 1}')).toEqual({ ok: true, value: { a: 1 } });
  });

  it.each([
    ['', 1, 1, 'expected a value, found the end of the text', undefined],
    ['{"a": 1,}', 1, 9, 'expected a key in double quotes, found "}"', 'remove the comma before it'],
    ['[1,\n 2,\n]', 3, 1, 'expected a value, found "]"', 'remove the comma before it'],
    ['{"a" 1}', 1, 6, 'expected ":", found "1"', undefined],
    ['{"a": 1 "b": 2}', 1, 9, 'expected "," or "}", found "\\""', undefined],
    ['{a: 1}', 1, 2, 'expected a key in double quotes, found "a"', undefined],
    ["{'a': 1}", 1, 2, 'expected a key in double quotes, found "\'"', 'use double quotes'],
    ['{\n  // note\n}', 2, 3, 'expected a key in double quotes, found "/"', 'JSON has no comments'],
    ['[1] 2', 1, 5, 'expected the end of the text, found "2"', undefined],
    ['[01]', 1, 2, 'expected a number, found "01"', undefined],
    ['[1.]', 1, 2, 'expected a number, found "1."', undefined],
    ['[-]', 1, 2, 'expected a number, found "-"', undefined],
    ['[NaN]', 1, 2, 'expected a value, found "NaN"', undefined],
    ['[truely]', 1, 2, 'expected a value, found "truely"', undefined],
    ['["a\nb"]', 1, 2, 'a string is not closed on its line', undefined],
    ['["a', 1, 2, 'a string is not closed on its line', undefined],
    ['["\\', 1, 2, 'a string is not closed on its line', undefined],
    ['["\\x"]', 1, 2, 'a string has a backslash that escapes nothing', 'write \\\\ for a backslash'],
    ['["a\\ud8"]', 1, 2, 'a string has a backslash that escapes nothing', 'write \\\\ for a backslash'],
    ['\r\n\r[}', 3, 2, 'expected a value, found "}"', undefined],
    ['{"a": [1, 2}', 1, 12, 'expected "," or "]", found "}"', undefined],
    ['{"a": {"b": ', 1, 13, 'expected a value, found the end of the text', undefined],
  ])('%j has an error at %i:%i', (text, line, column, message, hint) => {
    const problem = { code: 'SYNTAX_ERROR', line, column, message: `line ${line}, column ${column}: ${message}` };
    const parsed = parseJsonText(text);
    expect(parsed.ok ? [] : parsed.problems).toEqual([expect.objectContaining(hint ? { ...problem, hint } : problem)]);
    expect(() => JSON.parse(text)).toThrow();
  });

  it('with keys given twice, or numbers that lose digits, says all of them', () => {
    const text = '{\n "a": 1,\n "\\u0061": {"x": 9007199254740993, "x": [1e999]},\n "__proto__": 1, "__proto__": 2}';
    const parsed = parseJsonText(text);
    expect(parsed.ok ? [] : parsed.problems.map(({ message: _, ...problem }) => problem)).toEqual([
      { path: 'a', code: 'DUPLICATE_KEY', line: 3, column: 2, hint: 'rename or remove one of them' },
      { path: 'a.x', code: 'INEXACT_NUMBER', line: 3, column: 18, hint: 'put it in quotes' },
      { path: 'a.x', code: 'DUPLICATE_KEY', line: 3, column: 36, hint: 'rename or remove one of them' },
      { path: 'a.x[0]', code: 'INEXACT_NUMBER', line: 3, column: 42, hint: 'put it in quotes' },
      { path: '__proto__', code: 'DUPLICATE_KEY', line: 4, column: 18, hint: 'rename or remove one of them' },
    ]);
  });

  it('is bounded in depth, length and problems', () => {
    const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
    expect(parseJsonText(deep(MAX_JSON_DEPTH))).toMatchObject({ ok: true });
    expect(parseJsonText(deep(MAX_JSON_DEPTH + 1))).toMatchObject({ problems: [{ code: 'TOO_DEEP' }] });
    expect(parseJsonText('['.repeat(5_000_000))).toMatchObject({ problems: [{ code: 'TOO_DEEP' }] });
    expect(parseJsonText(`"${'x'.repeat(MAX_TEXT_LENGTH)}"`)).toMatchObject({ problems: [{ code: 'TOO_LARGE' }] });
    const twice = `{${Array(1_000).fill('"a":1').join(',')}}`;
    const parsed = parseJsonText(twice);
    expect(parsed.ok ? [] : parsed.problems).toHaveLength(MAX_TEXT_PROBLEMS);
  });

  it('cut or changed anywhere is refused exactly when JSON.parse refuses it', () => {
    const text = '{"a": [1, -2.5e3, "x\\n\\u0041", true, null, {}], "b": {"c": [[]], "d": ""}}';
    const alphabet = '{}[]",:\\ \n0123.-+eEatruefalsn/';
    const random = seededRandom(7);
    for (let round = 0; round < 5_000; round++) {
      const at = Math.floor(random() * text.length);
      const put = random() < 0.3 ? '' : alphabet[Math.floor(random() * alphabet.length)]!;
      const changed = text.slice(0, at) + put + text.slice(at + Math.floor(random() * 3));
      let expected: string | false;
      try {
        expected = JSON.stringify(JSON.parse(changed));
      } catch {
        expected = false;
      }
      const parsed = parseJsonText(changed);
      const stricter = !parsed.ok && parsed.problems.every(({ code }) => code !== 'SYNTAX_ERROR');
      if (stricter) expect([changed, expected]).not.toEqual([changed, false]);
      else expect([changed, parsed.ok && JSON.stringify(parsed.value)]).toEqual([changed, expected]);
    }
  });
});
