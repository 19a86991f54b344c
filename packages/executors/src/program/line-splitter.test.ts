import { expect, test } from 'vitest';
import { LineSplitter } from './line-splitter.ts';

function lines(...chunks: (string | Buffer)[]): string[] {
  const found: string[] = [];
  const splitter = new LineSplitter((line) => found.push(line));
  for (const chunk of chunks) splitter.write(Buffer.from(chunk as string));
  splitter.end();
  return found;
}

test('lines come whole however the bytes were cut, with their empty ones, and the last without an end too', () => {
  expect(lines('a\nb', 'c\r\n\n', 'd')).toEqual(['a', 'bc', '', 'd']);
  const text = Buffer.from('žluť\nkůň');
  for (let cut = 0; cut <= text.length; cut++) {
    expect(lines(text.subarray(0, cut), text.subarray(cut))).toEqual(['žluť', 'kůň']);
  }
});

test('bytes that are no text are shown as such', () => {
  expect(lines(Buffer.from([0x61, 0xff, 0xfe, 0x62, 0x0a, 0xc3]))).toEqual(['a\ufffd\ufffdb', '\ufffd']);
});

test('of a progress bar the last state counts', () => {
  expect(lines('\r 1%\r 2%', '\r 3%\n', 'done')).toEqual([' 3%', 'done']);
});

test('a line that never ends comes in pieces, and memory stays small', () => {
  const found: number[] = [];
  const splitter = new LineSplitter((line) => found.push(line.length));
  for (let i = 0; i < 1000; i++) splitter.write(Buffer.alloc(10_000, 'x'));
  expect(splitter.isPending).toBe(true);
  splitter.end();
  expect(found.reduce((a, b) => a + b)).toBe(10_000_000);
  expect(Math.max(...found)).toBeLessThanOrEqual(16 * 1024);
});

test('a progress bar without any line end stays small', () => {
  const found: string[] = [];
  const splitter = new LineSplitter((line) => found.push(line));
  for (let i = 0; i < 100_000; i++) splitter.write(Buffer.from(`\rstep ${i}`));
  splitter.end();
  expect(found).toEqual(['step 99999']);
});
