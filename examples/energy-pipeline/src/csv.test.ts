import { expect, test } from 'vitest';
import { formatCsv, parseCsv, parseNumber } from './csv.ts';
import { StepError } from './step.ts';

test('reads quotes, doubled quotes, line breaks in fields, CRLF and a byte order mark', () => {
  expect(parseCsv('\ufeffa,b\r\n"x, ""y""","two\nlines"\r\n,\r\n')).toEqual([
    ['a', 'b'],
    ['x, "y"', 'two\nlines'],
    ['', ''],
  ]);
});

test('leaves out blank lines, keeps rows of any length, and needs no newline at the end', () => {
  expect(parseCsv('a,b,c\n\n1\n1,2,3,4\n""\nz')).toEqual([['a', 'b', 'c'], ['1'], ['1', '2', '3', '4'], [''], ['z']]);
  expect(parseCsv('')).toEqual([]);
});

test('says where a quote was opened that is never closed', () => {
  expect(() => parseCsv('a,b\n1,"2\n3,4\n')).toThrow(new StepError('a quote opened in line 2 is never closed'));
});

test('what is written is read back', () => {
  const rows = [
    ['plain', 'with, comma', 'with "quote"'],
    ['', 'line\nbreak', '=1+1'],
  ];
  expect(parseCsv(formatCsv(rows))).toEqual(rows);
});

test('takes decimal numbers only', () => {
  expect(['1', ' 2.50 ', '-3', '+.5', '1e3', '7.'].map(parseNumber)).toEqual([1, 2.5, -3, 0.5, 1000, 7]);
  for (const text of ['', ' ', 'n/a', '0x1F', 'Infinity', 'NaN', '1,5', '12 kW', '1e999', '--1']) {
    expect(parseNumber(text), text).toBeUndefined();
  }
});
