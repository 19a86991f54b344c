import { expect, test } from 'vitest';
import { type Flag, placeFlags } from './flags.ts';
import { textWidth } from './svg.ts';

const flag = (x: number, text = 'some twenty letters.'): Flag => ({ x, lines: [{ text, size: 14, weight: 400 }] });

test('flags with room stand in the lowest row, on the right of their pole', () => {
  expect(placeFlags([flag(0), flag(300)], [0, 600], 3).map(({ row, side }) => [row, side])).toEqual([
    [0, 'right'],
    [0, 'right'],
  ]);
});

test('at the right edge a flag hangs to the left', () => {
  expect(placeFlags([flag(590)], [0, 600], 3)).toMatchObject([{ row: 0, side: 'left' }]);
});

test('no texts touch and no pole runs through a text, however crowded', () => {
  const flags = [40, 10, 60, 11, 300, 310, 305, 560, 555, 590, 100, 100].map((x) => flag(x));
  const placed = placeFlags(flags, [0, 600], 4);
  expect(placed.length).toBeGreaterThan(4);
  const spans = placed.map(({ flag, row, side }) => {
    const width = textWidth(flag.lines[0]!.text, 14);
    return {
      row,
      x: flag.x,
      from: side === 'right' ? flag.x : flag.x - width,
      to: side === 'right' ? flag.x + width : flag.x,
    };
  });
  for (const a of spans) {
    expect(a.from).toBeGreaterThanOrEqual(0);
    expect(a.to).toBeLessThanOrEqual(600);
    for (const b of spans) {
      if (a === b) continue;
      if (a.row === b.row) expect(a.to <= b.from || b.to <= a.from).toBe(true);
      if (a.row > b.row) expect(a.x <= b.from || a.x >= b.to).toBe(true);
    }
  }
});

test('what finds no place is left out, the first ones never', () => {
  const flags = Array.from({ length: 9 }, () => flag(300));
  const placed = placeFlags(flags, [0, 600], 2);
  expect(placed.length).toBeLessThan(9);
  expect(placed[0]?.flag).toBe(flags[0]);
});
