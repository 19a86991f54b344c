import { expect, test } from 'vitest';
import { cleanJson, cleanLine, cleanLines } from './clean.ts';

test.each([
  ['colours', '\u001b[31mred\u001b[0m', 'red'],
  ['cursor movements', 'a\u001b[2K\u001b[1Ab', 'ab'],
  ['a window title', '\u001b]0;owned\u0007text', 'text'],
  ['a link', '\u001b]8;;http://evil\u0007click\u001b]8;;\u0007', 'click'],
  ['eight-bit escapes', '\u009b31mred', 'red'],
  ['a carriage return', 'safe\rFAKE', 'safe FAKE'],
  ['a bell and a backspace', 'a\u0007\bb', 'ab'],
  ['line ends and tabs', 'a\nb\tc\r\nd', 'a b c d'],
  ['a turned direction', 'a\u202egnp.exe', 'agnp.exe'],
  ['a lone escape', 'a\u001b', 'a'],
])('%s are gone', (_, text, clean) => {
  expect(cleanLine(text)).toBe(clean);
});

test('words, accents and glyphs stay', () => {
  expect(cleanLine('Zürich ✓ 東京 👩‍💻')).toBe('Zürich ✓ 東京 👩‍💻');
});

test('lines stay lines, and a carriage return begins one', () => {
  expect(cleanLines('a\nb\r\nc\rd')).toEqual(['a', 'b', 'c', 'd']);
});

test('JSON is harmless on a terminal and means the same', () => {
  const value = { text: '\u001b[31m\u009b\u202e\u007f\r', bytes: new Uint8Array([1, 2]) };
  const json = cleanJson(value);
  expect(json).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
  expect(JSON.parse(json)).toEqual({ text: value.text, bytes: { base64: 'AQI=' } });
});
