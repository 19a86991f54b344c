import { setTimeout as sleep } from 'node:timers/promises';
import { type Baton, createBaton } from '@baton/client';
import { connect } from './calls.ts';
import { type CpuShare, cpuShare } from './cpu.ts';
import { whenSucceeded } from './drain.ts';
import { verifyHistory } from './history.ts';
import { startLoad } from './load.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import { readStatements, resetStatements, type StatementCost } from './statements.ts';
import { type Percentiles, percentiles } from './statistics.ts';

export interface LatencyRun {
  who: 'baton';
  slots: number;
  /** No-op tasks a second beside the probes; 0: idle. */
  load: number;
  /** Probes a second. */
  rate: number;
  probes: number;
  /** From the call of `submit` to the first line of the task's code on the worker. */
  startMs: Percentiles;
  /** From the call of `submit` to its answer: the task is on disk. */
  acknowledgedMs: Percentiles;
  /** From the call of `submit` to the result in the hands of the client. */
  resultMs: Percentiles;
  /** Per probe; most of it is the cost of being there. */
  cpu: CpuShare;
  statements?: StatementCost[];
}

interface Probe {
  startMs: number;
  acknowledgedMs: number;
  resultMs: number;
}

const WARM_UP = 40;
const SETTLE_MS = 500;

/** One worker, idle but for the probes or beside a load; the probes come at a fixed rate whether or not the last one has ended. */
export async function measureLatency(
  server: BenchServer,
  options: BenchOptions,
  slots: number,
  load = 0,
): Promise<LatencyRun> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  const baton = createBaton({ url: product.url });
  await product.addWorkers(1, slots);
  await using beside = load > 0 ? await startLoad('baton', product.url, load) : null;
  const series = async (count: number): Promise<Probe[]> => {
    const begin = performance.now();
    const probes: Promise<Probe>[] = [];
    for (let i = 0; i < count; i++) {
      const due = begin + (i * 1000) / options.rate - performance.now();
      if (due > 0) await sleep(due);
      probes.push(send(baton));
    }
    return Promise.all(probes);
  };
  await series(WARM_UP);
  await sleep(SETTLE_MS);
  const count = Math.ceil(options.rate * options.seconds);
  const withStatements = options.statements && server.hasStatements;
  if (withStatements) await resetStatements(product.database.sql);
  const from = product.readCpu();
  const probes = await series(count);
  const cpu = cpuShare(from, product.readCpu(), count);
  const statements = withStatements ? await readStatements(product.database.sql, count) : undefined;
  const others = (await beside?.stop()) ?? 0;
  await whenSucceeded(client, WARM_UP + count + others, product.logs);
  await verifyHistory(product.database.sql, WARM_UP + count + others);
  return {
    who: 'baton',
    slots,
    load,
    rate: options.rate,
    probes: count,
    startMs: percentiles(probes.map((p) => p.startMs)),
    acknowledgedMs: percentiles(probes.map((p) => p.acknowledgedMs)),
    resultMs: percentiles(probes.map((p) => p.resultMs)),
    cpu,
    ...(statements && { statements }),
  };
}

async function send(baton: Baton): Promise<Probe> {
  const sentNs = process.hrtime.bigint();
  const since = (ns: bigint) => Number(ns - sentNs) / 1e6;
  const handle = await baton.tasks.submit<{ startedNs: string }>({ kind: 'probe', input: null });
  const acknowledgedMs = since(process.hrtime.bigint());
  const { startedNs } = await handle.result();
  return { startMs: since(BigInt(startedNs)), acknowledgedMs, resultMs: since(process.hrtime.bigint()) };
}
