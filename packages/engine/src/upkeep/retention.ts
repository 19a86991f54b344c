import {
  type Cutoff,
  countOldRuns,
  dropArtifacts,
  dropBreakerChanges,
  dropCounters,
  dropOldRuns,
  endedSince,
  listPartitions,
  livingBelow,
  type Partition,
  readCutoff,
  repeatDuty,
  retirePartitions,
  takeDuty,
} from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import { isContention } from '../persist.ts';

/**
 * What became of a partition that is older than history. `dropped`; `would be dropped` in a dry run; `busy`: it was in use for too
 * long, or another master is at it; it is tried again later; `kept whole`: more lives in it than can be moved in a short step; `gone`: another master was first.
 */
export type PartitionFate = 'dropped' | 'would be dropped' | 'busy' | 'kept whole' | 'gone';

export interface RetentionReport {
  historyDays: number;
  partitions: (Pick<Partition, 'parent' | 'name' | 'until' | 'bytes' | 'rows'> & { fate: PartitionFate })[];
  /** Tasks in them that live, belong to a run that is kept, or have ended within history: these stay. */
  tasksKept: number;
  /** Runs that ended before, forgotten with their nodes. */
  runs: number;
  breakerChanges: number;
}

/** Dropping history by its age, without touching what lives. */
export interface Retention {
  /** Once a day, whichever master comes first. Does not throw. */
  runIfDue(): Promise<void>;
  /** Now. Any number of masters may do it at once, and die at it: each step is whole or nothing. */
  run(options?: { dryRun?: boolean }): Promise<RetentionReport>;
  stop(): Promise<void>;
}

const DUTY = 'retention';
const EVERY_MS = 86_400_000;
const AGAIN_MS = 3_600_000;
/** More living tasks are not moved in one step. */
const MOST_KEPT = 50_000;
const LOCK_TIMEOUT_MS = 150;
const TRIES = 20;
const PAUSE_MS = 300;

/** One step each, so that a task is never seen without its end. */
const TOGETHER: readonly (readonly string[])[] = [
  ['tasks', 'outcomes'],
  ['attempts'],
  ['task_logs'],
  ['task_outputs'],
  ['checkpoints'],
  ['cancel_requests'],
  ['events'],
];

/** @param options.tries how often a step is tried that finds its tables in use */
export function createRetention(env: EngineEnvironment, { tries: most = TRIES }: { tries?: number } = {}): Retention {
  const sql = env.pools.api;
  const { historyDays } = env.settings;
  let stopped = false;
  let running: Promise<unknown> = Promise.resolve();

  async function run({ dryRun = false } = {}): Promise<RetentionReport> {
    const cutoff = await readCutoff(sql, historyDays);
    const report: RetentionReport = { historyDays, partitions: [], tasksKept: 0, runs: 0, breakerChanges: 0 };
    // Runs first: the tasks of those that stay are kept.
    if (dryRun) report.runs = await countOldRuns(sql, cutoff);
    else {
      report.runs = await all(() => dropOldRuns(sql, cutoff));
      report.breakerChanges = await all(() => dropBreakerChanges(sql, cutoff));
    }
    const partitions = await listPartitions(sql);
    const due = partitions.filter((p) => !p.isOld && isBefore(p, cutoff));
    /** A table whose partition stays keeps those after it too: they go in their order. */
    const held = new Map<string, PartitionFate>();
    for (const until of [...new Set(due.map((p) => p.until.getTime()))].sort((a, b) => a - b)) {
      const week = due.filter((p) => p.until.getTime() === until);
      const kept = await keptBelow(week, cutoff);
      report.tasksKept = Math.max(report.tasksKept, kept.length);
      for (const parents of TOGETHER) {
        const group = week.filter((p) => parents.includes(p.parent));
        if (group.length === 0 || stopped) continue;
        let fate: PartitionFate = 'would be dropped';
        const before = group.map((p) => held.get(p.parent)).find((f) => f !== undefined);
        if (before) fate = before;
        else if (kept.length > MOST_KEPT && group[0]!.parent !== 'events') fate = 'kept whole';
        else if (!dryRun) fate = await retire(group, kept);
        if (fate === 'busy' || fate === 'kept whole') for (const p of group) held.set(p.parent, fate);
        for (const { parent, name, until, bytes, rows } of group)
          report.partitions.push({ parent, name, until, bytes, rows, fate });
      }
    }
    if (!dryRun) await all(() => dropCounters(sql, cutoff));
    if (!dryRun) await all(() => dropArtifacts(sql, cutoff));
    return report;
  }

  /** What must stay of a week and of all that is older. It can only become less: nobody makes tasks of the past. */
  async function keptBelow(week: readonly Partition[], cutoff: Cutoff): Promise<string[]> {
    const upperId = week.find((p) => p.upperId !== null)?.upperId;
    if (!upperId) return [];
    for (;;) {
      const ends = await endsBelow(upperId);
      const kept = new Set(await livingBelow(sql, upperId, MOST_KEPT + 1));
      for (const { name } of ends)
        for (const id of await endedSince(sql, name, cutoff.at, MOST_KEPT + 1 - kept.size).catch(goneIsNothing))
          kept.add(id);
      // Another master that dropped outcomes meanwhile has moved what it kept to where this one had looked before.
      if (String((await endsBelow(upperId)).map((p) => p.oid)) === String(ends.map((p) => p.oid))) return [...kept];
    }
  }

  async function endsBelow(upperId: string): Promise<Partition[]> {
    const partitions = await listPartitions(sql);
    // Without a bound: another master detaches it in this moment.
    const isBelow = (p: Partition) => p.upperId !== null && BigInt(p.upperId) <= BigInt(upperId);
    return partitions.filter((p) => p.parent === 'outcomes' && isBelow(p));
  }

  async function retire(group: readonly Partition[], kept: readonly string[]): Promise<PartitionFate> {
    for (let tries = 1; !stopped; tries++) {
      try {
        return await retirePartitions(sql, group, kept, LOCK_TIMEOUT_MS);
      } catch (error) {
        if (isUndefinedTable(error)) return 'gone';
        if (!isContention(error)) throw error;
        if (tries >= most) break;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * (0.5 + env.random())));
      }
    }
    return 'busy';
  }

  async function all(step: () => Promise<number>): Promise<number> {
    let total = 0;
    while (!stopped) {
      const done = await step();
      total += done;
      if (done === 0) break;
    }
    return total;
  }

  async function runIfDue(): Promise<void> {
    try {
      if (!(await takeDuty(sql, DUTY, EVERY_MS))) return;
      const report = await run();
      const of = (fate: PartitionFate) => report.partitions.filter((p) => p.fate === fate);
      if (of('busy').length > 0) await repeatDuty(sql, DUTY, EVERY_MS, AGAIN_MS);
      if (report.partitions.length > 0 || report.runs > 0)
        env.log.info('history dropped by age', {
          history_days: historyDays,
          partitions: of('dropped').length,
          bytes: of('dropped').reduce((sum, p) => sum + p.bytes, 0),
          busy: of('busy').length,
          kept_whole: of('kept whole').length,
          tasks_kept: report.tasksKept,
          runs: report.runs,
        });
    } catch (error) {
      env.log.warn('history not dropped', { error: String(error) });
      await repeatDuty(sql, DUTY, EVERY_MS, AGAIN_MS).catch(() => {});
    }
  }

  const begin = <T>(work: () => Promise<T>): Promise<T> => {
    const begun = running.then(work);
    running = begun.catch(() => {});
    return begun;
  };

  return {
    runIfDue: () => begin(runIfDue),
    run: (options) => begin(() => run(options)),
    async stop() {
      stopped = true;
      await running;
    },
  };
}

function isBefore(partition: Partition, cutoff: Cutoff): boolean {
  return partition.upperId === null ? partition.until <= cutoff.at : BigInt(partition.upperId) <= BigInt(cutoff.id);
}

function isUndefinedTable(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === '42P01';
}

function goneIsNothing(error: unknown): string[] {
  if (isUndefinedTable(error)) return [];
  throw error;
}
