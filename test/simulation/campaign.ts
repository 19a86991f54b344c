import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Mutation, type SimulationResult, simulate } from './simulation.ts';

export interface CampaignOptions {
  from: number;
  seeds: number;
  mutation?: Mutation | undefined;
  /** Default: one for each core. */
  threads?: number;
  /** Stop after so many seeds that failed. Default: go on. */
  stopAfter?: number;
  /** Told of each seed that failed, as soon as it has. */
  onFailure?: (result: SimulationResult) => void;
}

/** What many seeds came to. */
export interface Campaign {
  from: number;
  seeds: number;
  /** Those that broke an invariant, by seed. */
  failed: { seed: number; violations: SimulationResult['violations'] }[];
  tasks: number;
  /** How often each fault was planned. */
  faults: Record<string, number>;
  counts: Record<string, number>;
  wallMs: number;
  seedsPerMinute: number;
}

/** The whole history is checked for one seed of so many: it costs half as much again as the seed. */
const HISTORY_EVERY = 4;

export const checksHistory = (seed: number): boolean => seed % HISTORY_EVERY === 0;

/** Runs seeds one after the other in this thread. */
export function runSeeds(
  seeds: Iterable<number>,
  options: CampaignOptions,
  told: (r: SimulationResult) => boolean,
): void {
  for (const seed of seeds)
    if (!told(simulate({ seed, mutation: options.mutation, history: checksHistory(seed) }))) return;
}

/** Many seeds over all cores. */
export async function runCampaign(options: CampaignOptions): Promise<Campaign> {
  const { from, seeds, mutation, threads = availableParallelism(), stopAfter = Number.POSITIVE_INFINITY } = options;
  const begun = performance.now();
  const campaign: Campaign = {
    from,
    seeds: 0,
    failed: [],
    tasks: 0,
    faults: {},
    counts: {},
    wallMs: 0,
    seedsPerMinute: 0,
  };
  const take = (result: SimulationResult): boolean => {
    campaign.seeds++;
    campaign.tasks += result.tasks;
    addUp(campaign.faults, result.faults);
    addUp(campaign.counts, result.counts);
    if (result.violations.length > 0) {
      campaign.failed.push({ seed: result.seed, violations: result.violations });
      options.onFailure?.(result);
    }
    return campaign.failed.length < stopAfter;
  };
  if (threads <= 1 || seeds < 20) runSeeds(range(from, seeds), options, take);
  else {
    const share = Array.from({ length: threads }, (_, n) => ({ from: from + n, step: threads, until: from + seeds }));
    await Promise.all(share.map((part) => runThread({ ...part, mutation }, take)));
  }
  campaign.failed.sort((a, b) => a.seed - b.seed);
  campaign.wallMs = Math.round(performance.now() - begun);
  campaign.seedsPerMinute = Math.round((campaign.seeds / campaign.wallMs) * 60_000);
  return campaign;
}

/** What a thread is told. */
export interface ThreadShare {
  from: number;
  step: number;
  until: number;
  mutation: Mutation | undefined;
}

function runThread(share: ThreadShare, take: (result: SimulationResult) => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./campaign-thread.ts', import.meta.url), { workerData: share });
    worker.on('message', (results: SimulationResult[]) => {
      if (!results.every(take)) void worker.terminate();
    });
    worker.on('error', reject);
    worker.on('exit', () => resolve());
  });
}

function* range(from: number, count: number): Generator<number> {
  for (let seed = from; seed < from + count; seed++) yield seed;
}

function addUp(sum: Record<string, number>, more: Record<string, number | undefined>): void {
  for (const [name, count = 0] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + count;
}
