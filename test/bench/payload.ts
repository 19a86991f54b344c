import { setTimeout as sleep } from 'node:timers/promises';
import { connect, inLanes, RefusedError } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { rssMb } from './crowd.ts';
import { whenSucceeded } from './drain.ts';
import { IncompleteHistoryError, verifyHistory } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

/** Tasks with inputs of one size, from clients to a worker that weighs them. */
export interface PayloadRun {
  bytes: number;
  tasks: number;
  tasksPerSecond: number;
  /** Of inputs, from the first submit to the last end; a MB is 10⁶ bytes. */
  mbPerSecond: number;
  seconds: number;
  /** Of the master: before, the most meanwhile, and once everything has been done for a while. */
  rssBeforeMb: number;
  rssPeakMb: number;
  rssAfterMb: number;
  cpu: CpuShare;
}

const SIZES = [1024, 64 * 1024, 1024 * 1024];
/** More tasks than this tell nothing more. */
const MOST_TASKS = 20_000;
const AT_ONCE = 8;
const SLOTS = 8;
const WARM_UP_TASKS = 24;
const LOOK_MS = 20;

/** Each size with `--tasks` MiB in all. What is not text is not compressed on its way, and neither are random bytes. */
export async function measurePayload(
  server: BenchServer,
  options: BenchOptions,
  onRun: (run: PayloadRun) => void,
): Promise<PayloadRun[]> {
  const runs: PayloadRun[] = [];
  for (const bytes of SIZES) {
    const run = await measureSize(server, options, bytes);
    runs.push(run);
    onRun(run);
  }
  return runs;
}

async function measureSize(server: BenchServer, options: BenchOptions, bytes: number): Promise<PayloadRun> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  await product.addWorkers(1, SLOTS);
  const input = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += 65_536) crypto.getRandomValues(input.subarray(at, at + 65_536));
  const send = async (count: number) => {
    let left = count;
    await inLanes(
      AT_ONCE,
      () => left-- > 0,
      async () => {
        const task = { kind: 'weigh', payload: { case: 'inputBytes', value: input } } as const;
        const { taskId } = await client.tasks.submitTask({ task });
        if (taskId === '') throw new RefusedError('no id');
      },
    );
  };
  await send(WARM_UP_TASKS);
  await whenSucceeded(client, WARM_UP_TASKS, product.logs);

  const tasks = Math.min(MOST_TASKS, Math.max(AT_ONCE, Math.floor((options.tasks * 1024 * 1024) / bytes)));
  const rssBeforeMb = rssMb(product.masterPid);
  let rssPeakMb = rssBeforeMb;
  const looks = setInterval(() => {
    rssPeakMb = Math.max(rssPeakMb, rssMb(product.masterPid));
  }, LOOK_MS);
  const from = product.readCpu();
  try {
    await send(tasks);
    await whenSucceeded(client, WARM_UP_TASKS + tasks, product.logs);
  } finally {
    clearInterval(looks);
  }
  const to = product.readCpu();
  await sleep(options.seconds * 1_000);
  const rssAfterMb = rssMb(product.masterPid);
  const { sql } = product.database;
  await verifyHistory(sql, WARM_UP_TASKS + tasks);
  const [row] = await sql`
    select count(*) filter (where convert_from(output, 'utf8') <> ${String(bytes)})::integer as wrong from baton.outcomes`;
  if (row!.wrong !== 0) throw new IncompleteHistoryError(`${row!.wrong} of ${tasks} inputs came with another length`);
  const seconds = (to.atMs - from.atMs) / 1000;
  return {
    bytes,
    tasks,
    tasksPerSecond: tasks / seconds,
    mbPerSecond: (tasks * bytes) / 1e6 / seconds,
    seconds,
    rssBeforeMb,
    rssPeakMb,
    rssAfterMb,
    cpu: cpuShare(from, to, tasks),
  };
}
