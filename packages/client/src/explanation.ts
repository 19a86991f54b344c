import type { ExplainTaskResponse } from '@baton/contract';
import { optionalDate } from './calls/time.ts';
import { type TaskStateName, taskStateName } from './words.ts';

/** One thing that keeps a task from running. */
export interface BlockerView {
  /** Stable: NOT_DUE, QUEUE_PAUSED, NO_WORKER, MISSING_CAPABILITY, NO_CAPACITY, …; see the guide to tasks. */
  readonly reason: string;
  readonly message: string;
  /** What would lift it. */
  readonly remedy: string;
  /** The worker that it is about; undefined: all. */
  readonly worker?: string;
  /** What that worker lacks: `tag:ssd`, `kind:resize`, `memory>68719476736`. */
  readonly missing: readonly string[];
  /** When it ends by itself. */
  readonly until?: Date;
}

/** Why a task does not run. */
export interface ExplanationView {
  readonly state: TaskStateName;
  /** One sentence: the nearest blocker. */
  readonly summary: string;
  /** The nearest first; empty when the task may start any moment. */
  readonly blockers: readonly BlockerView[];
  /** Living workers that could do it, were they free. */
  readonly fittingWorkers: number;
  /** Ready tasks of its lane that go before it, counted up to 10 000. */
  readonly ahead: number;
}

export function explanationView(response: ExplainTaskResponse): ExplanationView {
  return {
    state: taskStateName(response.state),
    summary: response.summary,
    blockers: response.blockers.map(({ reason, message, remedy, worker, missing, until }) => ({
      reason,
      message,
      remedy,
      worker: worker || undefined,
      missing,
      until: optionalDate(until),
    })),
    fittingWorkers: response.fittingWorkers,
    ahead: response.ahead,
  };
}
