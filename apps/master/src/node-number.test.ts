import { openSql } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { afterEach, expect, it, vi } from 'vitest';
import { openDatabase } from './database.ts';
import { takeNodeNumber } from './node-number.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

afterEach(() => {
  vi.restoreAllMocks();
});

it('a master that was away for longer than its number makes no id with it', async () => {
  await using database = await testDatabase();
  await openDatabase(database.url, '', quiet as never);
  const sql = openSql(database.url, { max: 1 });
  const number = await takeNodeNumber(sql, 'here', () => '1');
  number.assertHeld();
  const away = performance.now() + 56_000;
  vi.spyOn(performance, 'now').mockReturnValue(away);
  expect(() => number.assertHeld()).toThrow(
    expect.objectContaining({ reason: 'NODE_NUMBER_LOST', code: 'unavailable' }),
  );
  vi.restoreAllMocks();
  number.assertHeld();
  await number.release('2');
  await sql.end();
});
