import { type DueRun, dropAdvances, dueAdvances, type NewTask, readRevisions, stepRuns } from '@baton/store';
import type { EngineEnvironment } from '../environment.ts';
import type { Counters } from '../metrics.ts';
import { isRowError, persist } from '../persist.ts';
import { logRunEnd } from './log-run-end.ts';
import type { RunContexts } from './run-context.ts';
import type { PlannedStep, StepPlanner } from './run-step.ts';

export interface RunLoopSinks {
  onReady(laneId: number): void;
  /** Steps have stored these tasks. */
  onStored(tasks: readonly NewTask[]): void;
  onChanged(): void;
  cancelTasks(namespaceId: number, taskIds: string[], reason: string): Promise<void>;
  cancelRun(namespaceId: number, runId: string, reason: string): Promise<unknown>;
  onRunEnded(runId: string): void;
  /** Runs of durable functions that have something to do; what is answered is to be taken out of `advances`. */
  onFunctionAdvances(due: readonly DueRun[]): Promise<void>;
}

export interface RunLoop {
  /** Takes up what is due. */
  poke(): void;
  stop(): Promise<void>;
}

/** Advances that one round takes. */
const ADVANCES = 2_000;
/** Changes that one statement writes, about. */
const WRITES = 2_000;
/** Tasks that are asked to stop at once. */
const CANCELS = 1_000;
/** Whoever comes second leaves a run to the first for a moment, ms. */
const YIELD_MS = 20;
const MOST_YIELD_MS = 1_000;
/** A run whose row was locked for another reason is written again, so often. */
const MOST_TRIES = 5;

/**
 * Advances runs, those of many in one statement. What is read, planned and written is guarded by each run's revision: of any number of
 * masters one writes, the others write nothing and look again. An advance goes with the step that answers it, or stays.
 */
export function createRunLoop(
  env: EngineEnvironment,
  contexts: RunContexts,
  planStep: StepPlanner,
  counters: Counters,
  sinks: RunLoopSinks,
): RunLoop {
  const { pools } = env;
  let advancing: Promise<void> | null = null;
  let again = false;
  let stopped = false;
  /** Runs that another master is stepping: until when they are left to it, and for how long. */
  const yielded = new Map<string, { until: number; ms: number }>();
  let timer: ReturnType<typeof setTimeout> | null = null;

  function yieldRun(runId: string): void {
    const ms = Math.min(MOST_YIELD_MS, (yielded.get(runId)?.ms ?? YIELD_MS / 2) * 2);
    yielded.set(runId, { until: env.now() + ms * (0.5 + env.random()), ms });
  }

  /** Those that are left to others now. Forgets what is long over. */
  function leftOut(): string[] {
    const now = env.now();
    for (const [runId, { until, ms }] of yielded) if (until + 4 * ms < now) yielded.delete(runId);
    return [...yielded].filter(([, { until }]) => until > now).map(([runId]) => runId);
  }

  async function stepAll(due: readonly DueRun[]): Promise<void> {
    const open = due.filter((d) => d.form === 'graph' && (d.state === 'pending' || d.state === 'running'));
    const closed = due.filter((d) => d.form === 'graph' && d.state !== 'pending' && d.state !== 'running');
    const functions = due.filter((d) => d.form === 'function');
    const others: Promise<unknown>[] = [];
    if (closed.length > 0)
      others.push(
        dropAdvances(
          pools.hot,
          closed.flatMap((d) => d.advanceIds),
        ),
      );
    if (functions.length > 0) others.push(sinks.onFunctionAdvances(functions));
    const byRun = new Map(open.map((d) => [d.runId, d]));
    const found = await contexts.get(open);
    const planned = await Promise.all(
      [...found].map(async ([runId, context]) => {
        try {
          const step = await planStep(context, byRun.get(runId)!);
          if (step.cancel) await carryOutCancel(step);
          return step;
        } catch (error) {
          env.log.error('planning a step of a run failed', { run_id: runId, error: String(error) });
          yieldRun(runId);
          return null;
        }
      }),
    );
    let batch: PlannedStep[] = [];
    let size = 0;
    for (const step of planned) {
      if (!step) continue;
      const { nodes, items, tasks } = step.write;
      const weight = 5 + nodes.length + items.length + tasks.length;
      if (size > 0 && size + weight > WRITES) {
        await write(batch);
        batch = [];
        size = 0;
      }
      batch.push(step);
      size += weight;
    }
    if (batch.length > 0) await write(batch);
    await Promise.all(others);
  }

  /** Before the step: who dies between the two leaves the advance to another, who asks again. */
  async function carryOutCancel({ context, cancel }: PlannedStep): Promise<void> {
    const { namespaceId } = context.run;
    const { taskIds, childRunIds, reason } = cancel!;
    for (let i = 0; i < taskIds.length; i += CANCELS)
      await sinks.cancelTasks(namespaceId, taskIds.slice(i, i + CANCELS), reason);
    for (const runId of childRunIds) await sinks.cancelRun(namespaceId, runId, reason);
  }

  async function write(batch: readonly PlannedStep[]): Promise<void> {
    let open = batch;
    for (let tries = 0; open.length > 0; tries++) {
      const steps = open.map((step) => step.write);
      let written: Map<string, { tells: boolean }>;
      try {
        written = await persist(() => stepRuns(pools.hot, steps), env.random);
      } catch (error) {
        if (!isRowError(error) || open.length === 1) {
          for (const { runId } of steps) yieldRun(runId);
          env.log.error('steps of runs could not be written', { run_id: steps[0]!.runId, error: String(error) });
          return;
        }
        // One of them is bad: the others are not to suffer for it.
        for (const step of open) await write([step]);
        return;
      }
      const missed: PlannedStep[] = [];
      const lanes = new Set<number>();
      for (const step of open) {
        const { context, write: step_ } = step;
        const done = written.get(step_.runId);
        if (!done) {
          missed.push(step);
          continue;
        }
        counters.add('baton_run_steps_total');
        yielded.delete(step_.runId);
        for (const task of step_.tasks) lanes.add(task.laneId);
        sinks.onStored(step_.tasks);
        if (step_.tasks.length > 0) counters.add('baton_tasks_submitted_total', step_.tasks.length);
        if (done.tells || step_.more || step_.children.length > 0) again = true;
        context.run.revision++;
        context.run.state = step_.state;
        if (step_.state === 'running') contexts.keep(context);
        else {
          logRunEnd(env.log, step_.runId, step_.state, context.run.workflowName);
          sinks.onRunEnded(step_.runId);
        }
      }
      for (const laneId of lanes) sinks.onReady(laneId);
      if (written.size > 0) sinks.onChanged();
      open = await unchanged(missed, tries);
    }
  }

  /** Of steps that were not written those whose run is as it was: its row was locked at that moment. The others are planned anew. */
  async function unchanged(missed: readonly PlannedStep[], tries: number): Promise<PlannedStep[]> {
    if (missed.length === 0) return [];
    const now = await readRevisions(
      pools.hot,
      missed.map((step) => step.write.runId),
    );
    const same: PlannedStep[] = [];
    for (const step of missed) {
      if (tries < MOST_TRIES && now.get(step.write.runId) === step.write.revision) same.push(step);
      else {
        counters.add('baton_run_conflicts_total');
        yieldRun(step.write.runId);
      }
    }
    if (same.length > 0) await new Promise((resolve) => setTimeout(resolve, 1 + env.random() * 2 ** tries));
    return same;
  }

  async function advanceAll(): Promise<void> {
    do {
      again = false;
      const due = await dueAdvances(pools.api, ADVANCES, leftOut());
      if (due.length > 0) await stepAll(due);
      if (due.reduce((n, d) => n + d.advanceIds.length, 0) >= ADVANCES) again = true;
    } while (again && !stopped);
    if (yielded.size > 0 && !timer && !stopped) {
      const now = env.now();
      const next = Math.min(...[...yielded.values()].map(({ until }) => until)) - now;
      timer = setTimeout(
        () => {
          timer = null;
          poke();
        },
        Math.max(1, next),
      );
    }
  }

  function poke(): void {
    if (stopped) return;
    if (advancing) {
      again = true;
      return;
    }
    advancing = advanceAll()
      .catch((error) => env.log.warn('runs could not be advanced', { error: String(error) }))
      .finally(() => {
        advancing = null;
        if (again) poke();
      });
  }

  return {
    poke,
    async stop() {
      stopped = true;
      if (timer) clearTimeout(timer);
      await advancing;
    },
  };
}
