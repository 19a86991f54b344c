import { createBaton } from '@baton/client';
import { connect, INPUT, inLanes, noopSpec, submitBulk } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { verifySubmitted } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import { type Percentiles, percentiles } from './statistics.ts';

export interface SubmitRun {
  who: 'baton';
  /** grpc: SubmitTask, one call each. sdk: baton.submit, which gathers what is submitted at once. bulk: SubmitTasks. */
  way: 'grpc' | 'sdk' | 'bulk';
  /** Submits under way at once. */
  atOnce: number;
  tasksPerCall: number;
  tasks: number;
  tasksPerSecond: number;
  seconds: number;
  /** Of one submit (of one call, for bulk), from the call to its answer. */
  answerMs: Percentiles;
  cpu: CpuShare;
  /** Rows counted afterwards. */
  stored: number;
}

const BULK = 1_000;
const WARM_UP_MS = 500;

/** Closed loops: the next submit is made when the last one is answered, that is, when it is on disk. No worker is there. */
export async function measureSubmits(
  server: BenchServer,
  options: BenchOptions,
  onRun: (run: SubmitRun) => void,
): Promise<SubmitRun[]> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  const baton = createBaton({ url: product.url });
  const input = JSON.parse(INPUT) as unknown;
  const grpc = () => client.tasks.submitTask({ task: noopSpec() });
  const sdk = () => baton.submit({ kind: 'noop', input });
  const bulk = () => submitBulk(client, BULK);
  let expected = 0;

  const loop = async (atOnce: number, milliseconds: number, step: () => Promise<unknown>): Promise<number[]> => {
    const until = performance.now() + milliseconds;
    const answers: number[] = [];
    await inLanes(
      atOnce,
      () => performance.now() < until,
      async () => {
        const at = performance.now();
        await step();
        answers.push(performance.now() - at);
      },
    );
    return answers;
  };

  const measure = async (
    way: SubmitRun['way'],
    atOnce: number,
    step: () => Promise<unknown>,
    tasksPerCall = 1,
  ): Promise<SubmitRun> => {
    expected += (await loop(atOnce, Math.min(WARM_UP_MS, options.seconds * 1000), step)).length * tasksPerCall;
    const from = product.readCpu();
    const answers = await loop(atOnce, options.seconds * 1000, step);
    const to = product.readCpu();
    const tasks = answers.length * tasksPerCall;
    expected += tasks;
    const seconds = (to.atMs - from.atMs) / 1000;
    await verifySubmitted(product.database.sql, expected);
    const run: SubmitRun = {
      who: 'baton',
      way,
      atOnce,
      tasksPerCall,
      tasks,
      tasksPerSecond: tasks / seconds,
      seconds,
      answerMs: percentiles(answers),
      cpu: cpuShare(from, to, tasks),
      stored: tasks,
    };
    onRun(run);
    return run;
  };

  const runs: SubmitRun[] = [];
  for (const atOnce of [1, 16, 128]) runs.push(await measure('grpc', atOnce, grpc));
  for (const atOnce of [1, 16, 128]) runs.push(await measure('sdk', atOnce, sdk));
  runs.push(await measure('bulk', 1, bulk, BULK));
  return runs;
}
