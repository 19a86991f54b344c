import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from './calls.ts';
import { type CpuShare, cpuShare, threadSeconds } from './cpu.ts';
import { whenSucceeded } from './drain.ts';
import { verifyHistory } from './history.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

/** One worker whose tasks compute for a while each, one after the other. */
export interface OverheadRun {
  tasks: number;
  /** CPU that each task uses, by its own count. */
  taskMs: number;
  slots: number;
  seconds: number;
  /** Of the worker's CPU what neither the tasks' code nor the heartbeat's thread used: leases, results, and Node's own (compiler, collector). */
  protocolPercent: number;
  /** Of the worker's CPU what the heartbeat's own thread used. */
  heartbeatPercent: number;
  /** CPU of the worker while there are no tasks, of one core: polls, heartbeats, the health of the machine. */
  idlePercent: number;
  cpu: CpuShare;
}

const TASK_MS = 100;
const SLOTS = 2;
const WARM_UP_TASKS = 10;
const IDLE_MS = 20_000;
const HEARTBEAT_THREAD = 'baton-heartbeat';

export async function measureOverhead(server: BenchServer, options: BenchOptions): Promise<OverheadRun> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  await product.addWorkers(1, SLOTS);
  const [pid] = product.workerPids();
  const heartbeat = () => threadSeconds(pid!, namedThread(pid!, HEARTBEAT_THREAD));
  const send = async (count: number) => {
    const task = { kind: 'computes', payload: { case: 'inputJson', value: String(TASK_MS) } } as const;
    for (let left = count; left > 0; left -= 1_000)
      await client.tasks.submitTasks({ tasks: Array.from({ length: Math.min(left, 1_000) }, () => task) });
  };
  await send(WARM_UP_TASKS);
  await whenSucceeded(client, WARM_UP_TASKS, product.logs);

  const { tasks } = options;
  const from = product.readCpu();
  const beatsFrom = heartbeat();
  await send(tasks);
  await whenSucceeded(client, WARM_UP_TASKS + tasks, product.logs);
  const to = product.readCpu();
  const beats = heartbeat() - beatsFrom;
  await verifyHistory(product.database.sql, WARM_UP_TASKS + tasks);
  const [row] = await product.database.sql`
    select sum(ms) as ms from (select convert_from(output, 'utf8')::float8 as ms from baton.outcomes order by task_id desc limit ${tasks}) o`;

  const idleFrom = product.readCpu();
  await sleep(Math.min(IDLE_MS, options.seconds * 1_000));
  const idleTo = product.readCpu();
  const worker = to.worker - from.worker;
  return {
    tasks,
    taskMs: TASK_MS,
    slots: SLOTS,
    seconds: (to.atMs - from.atMs) / 1_000,
    protocolPercent: ((worker - beats - Number(row!.ms) / 1_000) / worker) * 100,
    heartbeatPercent: (beats / worker) * 100,
    idlePercent: ((idleTo.worker - idleFrom.worker) / ((idleTo.atMs - idleFrom.atMs) / 1_000)) * 100,
    cpu: cpuShare(from, to, tasks),
  };
}

/** @throws NoThreadError */
function namedThread(pid: number, name: string): number {
  const found = readdirSync(`/proc/${pid}/task`).find(
    (tid) => readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').trim() === name,
  );
  if (found === undefined) throw new NoThreadError(`process ${pid} has no thread ${name}`);
  return Number(found);
}

export class NoThreadError extends Error {
  override readonly name = 'NoThreadError';
}
