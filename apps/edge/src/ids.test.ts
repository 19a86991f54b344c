import { compareIds, idTimeMs } from '@baton/domain';
import { drawEdgeNumber, openSql } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { expect, test } from 'vitest';
import { createEdgeIds, NoEdgeNumber } from './ids.ts';

const nodeOf = (id: string): number => Number((BigInt(id) >> 12n) & 1023n);

test('ids rise, lie in the node numbers that masters do not lease, and carry the time', async () => {
  for (const number of [0, 16_383]) {
    const ids = createEdgeIds(async () => ({ number, nowMs: 1_800_000_000_000 }));
    await ids.draw();
    const made = Array.from({ length: 5_000 }, () => ids.next());
    expect(new Set(made).size).toBe(5_000);
    expect(made.toSorted(compareIds)).toEqual(made);
    expect(new Set(made.map(nodeOf))).toEqual(new Set([number === 0 ? 960 : 1023]));
    expect(made.slice(0, 17).map(idTimeMs)).toEqual([...Array(16).fill(1_800_000_000_000), 1_800_000_000_001]);
  }
});

test('a number is drawn once for a request, and again when that failed', async () => {
  let draws = 0;
  const ids = createEdgeIds(async () => {
    draws++;
    if (draws === 1) throw new RangeError('no connection');
    return { number: 7, nowMs: Date.now() };
  });
  expect(() => ids.next()).toThrow(NoEdgeNumber);
  await expect(ids.draw()).rejects.toThrow('no connection');
  await Promise.all([ids.draw(), ids.draw()]);
  expect(draws).toBe(2);
  expect(ids.next()).toMatch(/^[1-9][0-9]{17,18}$/);
});

test('requests that come at once draw different numbers, prepared or behind a pooler', async () => {
  await using database = await testDatabase();
  const sql = openSql(database.url, { max: 4 });
  const pooled = openSql(database.url, { max: 4, pooled: true });
  try {
    const draws = await Promise.all(Array.from({ length: 400 }, (_, i) => drawEdgeNumber(i % 2 ? sql : pooled)));
    expect(new Set(draws.map((draw) => draw.number)).size).toBe(400);
    for (const { number, nowMs } of draws) {
      expect(number).toBeLessThan(16_384);
      expect(Math.abs(nowMs - Date.now())).toBeLessThan(60_000);
    }
  } finally {
    await Promise.all([sql.end(), pooled.end()]);
  }
});
