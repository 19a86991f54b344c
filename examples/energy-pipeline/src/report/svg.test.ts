import { expect, test } from 'vitest';
import { el, ellipsize, escapeXml, px, spread, textWidth, wrap } from './svg.ts';

test('escapes markup, and replaces what XML cannot hold', () => {
  expect(escapeXml(`<a b="c" d='e'>&`)).toBe('&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;');
  expect(escapeXml('\u0000\u001b\ud800\uffff\t\u{1f600}')).toBe('\ufffd\ufffd\ufffd\ufffd\t\u{1f600}');
  expect(el('text', { title: '"><script>' }, escapeXml('</text>'))).toBe(
    '<text title="&quot;&gt;&lt;script&gt;">&lt;/text&gt;</text>',
  );
});

test('pixels have two decimals at most and no minus zero', () => {
  expect([1 / 3, 5, -0.001, 1e-9].map(px)).toEqual(['0.33', '5', '0', '0']);
});

test('wraps at spaces, cuts what is too long, and says that it did', () => {
  const lines = wrap('one two three four five six', 80, 14, 2);
  expect(lines).toHaveLength(2);
  expect(lines[1]).toMatch(/…$/);
  for (const line of lines) expect(textWidth(line, 14)).toBeLessThanOrEqual(80);
  expect(wrap('2\u202f006 readings', 70, 14, 2)).toEqual(['2\u202f006', 'readings']);
  expect(wrap('', 80, 14, 2)).toEqual([]);
  expect(ellipsize('abcdefghijklmnop', 60, 14)).toMatch(/^abc.*…$/);
  expect(ellipsize('abc', 60, 14)).toBe('abc');
});

test('spreads labels that collide, keeps the order and the bounds', () => {
  expect(spread([10, 100, 200], 20, 0, 300)).toEqual([10, 100, 200]);
  expect(spread([100, 100, 100], 20, 0, 300)).toEqual([80, 100, 120]);
  expect(spread([295, 299], 20, 0, 300)).toEqual([280, 300]);
  expect(spread([5, 2], 20, 0, 300)).toEqual([20, 0]);
  const crowded = spread([50, 52, 90, 91, 95, 130], 30, 0, 200).toSorted((a, b) => a - b);
  for (const [i, at] of crowded.entries()) if (i > 0) expect(at - crowded[i - 1]!).toBeGreaterThanOrEqual(30 - 1e-9);
});
