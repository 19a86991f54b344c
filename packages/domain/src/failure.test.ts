import { expect, test } from 'vitest';
import { isStorableText, storableText } from './failure.ts';

test.each([
  ['plain — ünï 😀\n\tat line 2', 'plain — ünï 😀\n\tat line 2'],
  ['\u001b[31mred\u001b[0m \u001b[1;38;5;9mbold\u001b[m', 'red bold'],
  ['\u001b]8;;http://evil.example\u0007link\u001b]8;;\u001b\\ \u001bc', 'link '],
  ['one\r\ntwo\rthree', 'one\ntwo\ufffdthree'],
  ['bell\u0007 nul\u0000 del\u007f c1\u009b31m', 'bell\ufffd nul\ufffd del\ufffd c1\ufffd31m'],
  ['half \ud83d! other \ude00', 'half \ufffd! other \ufffd'],
  ['\u001b', '\ufffd'],
])('%j is kept as %j', (text, kept) => {
  expect(storableText(text)).toBe(kept);
  expect(storableText(kept)).toBe(kept);
});

test('storable is what has neither NUL nor half of a pair', () => {
  expect(isStorableText('\u001b[31m 😀')).toBe(true);
  expect(isStorableText('a\u0000')).toBe(false);
  expect(isStorableText('\ud800')).toBe(false);
});
