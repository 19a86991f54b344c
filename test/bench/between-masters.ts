/**
 * How long a task takes from its submit at one master to its start on a worker of another, with and without hints between them:
 * `node test/bench/between-masters.ts [probes]`, on an embedded Postgres of its own, or on that of DATABASE_URL.
 */
import { fileURLToPath } from 'node:url';
import { createBaton } from '@baton/client';
import { startStack } from '@baton/testkit';
import { openServer } from './server.ts';
import { percentiles } from './statistics.ts';

const probes = Number(process.argv[2] ?? 60);
const server = await openServer(process.env.DATABASE_URL || null);
const database = await server.freshDatabase();
const { sql } = database;
const options = {
  databaseUrl: database.url,
  env: { BATON_LEASE_TTL_MS: '30000', BATON_HEARTBEAT_MS: '10000', BATON_SWEEP_MS: '1000' },
};
const first = await startStack({ ...options, workers: 0 });
const second = await startStack({
  ...options,
  workers: 1,
  tasksModule: fileURLToPath(new URL('./between-masters.tasks.ts', import.meta.url)),
});
const baton = createBaton({ url: first.url });

async function measure(): Promise<ReturnType<typeof percentiles>> {
  const times: number[] = [];
  for (let n = 0; n < probes; n++) {
    // At any moment of the other master's round.
    await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 400));
    const asked = Date.now();
    const task = await baton.submit({ kind: 'start-time' });
    times.push(Number(await task.result()) - asked);
  }
  return percentiles(times);
}

console.log('with hints, ms:', await measure());
// Nobody else lives, as far as the masters can see: then they send none.
const expire = setInterval(
  () => void sql`update baton.masters set expires_at = clock_timestamp() - interval '1 s'`.catch(() => {}),
  50,
);
await new Promise((resolve) => setTimeout(resolve, 15_000));
console.log('without, ms:', await measure());
clearInterval(expire);
console.log(`probes: ${probes}, worker: ${second.workers[0]!.name}`);
await first.stop();
await second.stop();
await database[Symbol.asyncDispose]();
await server[Symbol.asyncDispose]();
process.exit(0);
