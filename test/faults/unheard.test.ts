import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { startStack } from '@baton/testkit';
import postgres from 'postgres';
import { expect, test } from 'vitest';

const tasksModule = fileURLToPath(new URL('./tasks.ts', import.meta.url));

test('while nothing fails, no lease is granted that its worker never hears of', { timeout: 90_000 }, async () => {
  // Heartbeats as often as can be: each may find leases under way, and ask for the whole list.
  const env = { BATON_HEARTBEAT_MS: '200', BATON_LEASE_TTL_MS: '6000' };
  await using first = await startStack({ workers: [{ name: 'w1' }], tasksModule, env });
  const { databaseUrl } = first;
  await using second = await startStack({ workers: [{ name: 'w2' }], tasksModule, env, databaseUrl });
  await using third = await startStack({ workers: 0, env, databaseUrl });
  const batons = [first, second, third].map(({ url }) => createBaton({ url }));
  const sql = postgres(databaseUrl, { max: 1 });
  const handles = [];
  for (let n = 0; n < 150; n++) {
    const retry = { maxAttempts: 4, initialDelayMs: 100 };
    handles.push(await batons[n % 3]!.tasks.submit({ kind: 'throws', retry }));
    // In no step with the heartbeats.
    await new Promise((resolve) => setTimeout(resolve, (n * 7) % 61));
  }
  await Promise.allSettled(handles.map((handle) => handle.result()));
  const rows =
    await sql`select task_id, failure ->> 'message' as why from baton.attempts where state = 'returned' and failure is not null`;
  await sql.end();
  expect([...rows]).toEqual([]);
});
