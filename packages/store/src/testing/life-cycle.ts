import { mayMove, type TaskState } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { LifeCycleDivergence, LifeCycleSteps } from './life-cycle-steps.ts';
import { IllegalTransition } from './model/index.ts';
import { type ObservedSession, type ObservedTask, observeEvents, observeSessions, observeTasks } from './observe.ts';
import { observeModelSessions, observeModelTasks } from './observe-model.ts';
import { seededRandom } from './random.ts';

export { LifeCycleDivergence };

export interface LifeCycleReport {
  tasks: number;
  /** How many of each there were, so that a test can see that none was missing. */
  granted: number;
  /** Leased as they were stored. */
  handed: number;
  completed: number;
  settled: number;
  /** Words about leases that were not held; each changed nothing. */
  stale: number;
  cancelled: number;
  promoted: number;
  swept: number;
  /** How often each kind of step was taken. */
  steps: Record<string, number>;
  /** Every step of a task that was seen, as "from→to". */
  transitions: Set<string>;
}

export interface LifeCycleOptions {
  readonly seed: number;
  /** At least so many. */
  readonly steps: number;
  /** It goes on until this is so, for three times as many steps at most. Default: at once. */
  readonly isEnough?: (report: LifeCycleReport) => boolean;
}

/**
 * Drives the statements of a task's life in a random order that the seed decides, each beside the model of what it should do; compares
 * what both say, and after each step all tasks, sessions and events. The clock has a part in it, too: of two kinds that failed in one
 * moment Postgres alone knows which was first, and the rest depends on it. The database must be migrated, and empty; it is left with the
 * tasks in it. No step waits: what time would do (a task falls due, a session expires) is written into the rows.
 * @throws LifeCycleDivergence, IllegalTransition, TaskMisplaced
 */
export async function driveLifeCycle(sql: Sql, options: LifeCycleOptions): Promise<LifeCycleReport> {
  const { steps, isEnough = () => true } = options;
  const run = new LifeCycleSteps(sql, seededRandom(options.seed));
  const comparison = new Comparison(sql, run);
  await run.begin();
  const report = (): LifeCycleReport => ({ ...run.counts, transitions: comparison.transitions });
  for (let n = 1; n <= steps || (n <= 3 * steps && !isEnough(report())); n++) {
    await run.step(n);
    await comparison.look();
  }
  return report();
}

/** What is in the tables and in the model, after each step. */
class Comparison {
  readonly transitions = new Set<string>();
  readonly #sql: Sql;
  readonly #run: LifeCycleSteps;
  #before = new Map<string, ObservedTask>();
  #lastEvent = '0';
  #seenEvents = 0;

  constructor(sql: Sql, run: LifeCycleSteps) {
    this.#sql = sql;
    this.#run = run;
  }

  async look(): Promise<void> {
    const { db } = this.#run;
    if (db.illegal.length > 0) throw new IllegalTransition(`${this.#run.doing}: ${db.illegal[0]}`);
    const tasks = await observeTasks(this.#sql);
    this.#compare('task', tasks, observeModelTasks(db));
    this.#compare<ObservedSession>('session', await observeSessions(this.#sql), observeModelSessions(db));
    const { events, lastId } = await observeEvents(this.#sql, this.#lastEvent);
    this.#lastEvent = lastId;
    const expected = db.events.slice(this.#seenEvents).map((e) => `${e.type}:${e.taskId}:${e.attempt}:${e.workerId}`);
    this.#seenEvents = db.events.length;
    this.#run.same('events', events, expected);
    for (const task of tasks.values()) {
      const from: TaskState | 'none' = this.#before.get(task.id)?.state ?? 'none';
      if (from === task.state) continue;
      // What is leased as it is stored is ready for no time at all; its events tell both.
      const way =
        from === 'none' && task.state === 'leased' ? (['none', 'ready', 'leased'] as const) : [from, task.state];
      for (const [i, to] of way.slice(1).entries()) {
        if (!mayMove(way[i]!, to as TaskState)) this.#run.diverge(`${task.id} moved from ${way[i]} to ${to}`);
        this.transitions.add(`${way[i]}→${to}`);
      }
    }
    this.#before = tasks;
  }

  #compare<T extends { id: string; state: string }>(
    what: string,
    found: Map<string, T>,
    expected: Map<string, T>,
  ): void {
    this.#run.same(`${what}s`, found.keys(), expected.keys());
    for (const row of found.values()) {
      const other = expected.get(row.id)!;
      for (const key of Object.keys(row) as (keyof T)[])
        if (String(row[key]) !== String(other[key]))
          this.#run.diverge(`${what} ${row.id} (${row.state}): ${String(key)} is ${row[key]}, should be ${other[key]}`);
    }
  }
}
