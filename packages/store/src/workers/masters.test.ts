import { expect, test } from 'vitest';
import { migratedDatabase } from '../database/migrated.fixture.ts';
import { leaseNode, releaseNode } from './masters.ts';

test('masters that come at once get a node number each; a number that is given back is leased again, with its floor', async () => {
  await using database = await migratedDatabase({ max: 20 });
  const { sql } = database;
  const lease = (instance: string) => leaseNode(sql, { instance, address: 'x', ttlMs: 60_000, idFloor: '0' });
  const leased = await Promise.all(Array.from({ length: 20 }, (_, i) => lease(`m${i}`)));
  expect(leased.map((each) => each?.node).sort((a, b) => a! - b!)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  const instance = `m${leased.findIndex((each) => each?.node === 7)}`;
  await releaseNode(sql, { node: 7, instance, idFloor: '123' });
  expect(await lease('next')).toEqual({ node: 7, idFloor: '123' });
  expect((await lease('after'))?.node).toBe(20);
});
