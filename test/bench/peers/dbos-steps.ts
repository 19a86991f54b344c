/**
 * DBOS doing what the bench of workflows asks of Baton: a workflow of three steps, so many at once, each started and awaited by its
 * caller in this process, without a queue. A process of its own, because DBOS is one per process, and so that its CPU can be told.
 *
 *   node test/bench/peers/dbos-steps.ts DATABASE_URL CONCURRENCY WARM_UP RUNS
 *
 * Prints a line when it is warm, waits for one on its input, and prints another when it is done: JSON, with runs and seconds. Ends when its
 * input ends.
 */
import { createInterface } from 'node:readline';
import { DBOS } from '@dbos-inc/dbos-sdk';

const databaseUrl = process.argv[2]!;
const [concurrency, warmUp, runs] = process.argv.slice(3).map(Number) as [number, number, number];
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
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
async function measure(count: number): Promise<{ seconds: number }> {
  let begun = 0;
  const from = performance.now();
  const caller = async () => {
    while (begun < count) {
      const start = begun++;
      const result = await addThree(start);
      if (result !== start + 3) throw new Error(`run ${start} gave ${result}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  return { seconds: (performance.now() - from) / 1_000 };
}

const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

await measure(warmUp);
say({ warm: warmUp });
await input.next();
say({ runs, ...(await measure(runs)) });
await input.next();
await DBOS.shutdown();
process.exit(0);
