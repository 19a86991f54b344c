import { expect, test } from 'vitest';
import { unstorableAt } from './json-text.ts';

/** As text and as bytes alike. */
function at(text: string): string | null {
  const asBytes = unstorableAt(new TextEncoder().encode(text), 'input');
  expect(unstorableAt(text, 'input')).toBe(asBytes);
  return asBytes;
}

test.each([
  ['{"x":"a\\u0000b"}', 'input.x'],
  ['"\\ud800"', 'input'],
  ['"\\uDFFF"', 'input'],
  ['"\\udc00\\ud800"', 'input'],
  ['[1,{"a b":["fine","\\ud83d!"]}]', 'input[1]["a b"][1]'],
  ['{"ok":1,"k\\u0000":2}', 'input["k\\u0000"]'],
  ['"\\\\\\u0000"', 'input'],
  ['{"first":"\\u0000","second":"\\u0000"}', 'input.first'],
  [`${'['.repeat(100_000)}"\\u0000"${']'.repeat(100_000)}`, `input${'[0]'.repeat(100_000)}`],
])('%.40s: NUL, or half of a pair', (text, path) => expect(at(text)).toBe(path));

test.each([
  '{"x":1}',
  '"\\ud83d\\ude00 and 😀"',
  '"\\\\u0000 is written, and is none"',
  '"\\u0001\\u00e4\\ue000\\n\\"\\/"',
  '"a",\\u0000',
  '',
])('%s: nothing, or no JSON', (text) => expect(at(text)).toBeNull());
