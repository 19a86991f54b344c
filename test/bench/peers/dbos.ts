/**
 * DBOS doing what the bench of workflows asks of Baton: a workflow of three steps, so many at once, each started and awaited by its
 * caller in this process, without a queue. A process of its own, because DBOS is one per process, and so that its CPU can be told.
 *
 *   node test/bench/peers/dbos.ts DATABASE_URL CONCURRENCY RUNS
 *
 * Prints one line of JSON: runs, seconds, CPU seconds of this process.
 */
import { DBOS } from '@dbos-inc/dbos-sdk';

const [databaseUrl, concurrency, runs] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])];
const quiet = { info() {}, debug() {}, warn() {}, error: (...said: unknown[]) => console.error(...said) };

const addThree = DBOS.registerWorkflow(
  async (start: number): Promise<number> => {
    const one = await DBOS.runStep(async () => start + 1, { name: 'one' });
    const two = await DBOS.runStep(async () => one + 1, { name: 'two' });
    return DBOS.runStep(async () => two + 1, { name: 'three' });
  },
  { name: 'add-three' },
);

DBOS.setConfig({
  name: 'bench',
  systemDatabaseUrl: databaseUrl,
  systemDatabasePoolSize: Math.max(10, concurrency),
  logger: quiet,
  applicationVersion: '1',
});
await DBOS.launch();

/** So many runs by so many callers, each of which starts its next when the last one's result is there. */
async function measure(count: number): Promise<{ seconds: number; cpuSeconds: number }> {
  let begun = 0;
  const cpu = process.cpuUsage();
  const from = performance.now();
  const caller = async () => {
    while (begun < count) {
      const start = begun++;
      const result = await addThree(start);
      if (result !== start + 3) throw new Error(`run ${start} gave ${result}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  const seconds = (performance.now() - from) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuSeconds: (user + system) / 1e6 };
}

// Connections, prepared code, caches of Postgres.
await measure(Math.min(runs, 100));
const measured = await measure(runs);
await DBOS.shutdown();
process.stdout.write(`${JSON.stringify({ runs, ...measured })}\n`);
process.exit(0);
