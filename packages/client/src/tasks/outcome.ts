import { isNamed } from '../error-name.ts';
import type { RunView } from '../runs/run-view.ts';
import type { FailureTypeName } from '../words.ts';
import type { AttemptView, FailureView, TaskView } from './task-view.ts';

/** Thrown by a task handle's `result()`: the task failed for good. */
export class TaskFailed extends Error {
  override readonly name = 'TaskFailed';
  readonly taskId: string;
  readonly kind: string;
  readonly type: FailureTypeName;
  /** Of the last attempt. */
  readonly failure: FailureView;
  /** Every attempt, the first one first. */
  readonly attempts: readonly AttemptView[];

  constructor(task: TaskView, attempts: readonly AttemptView[]) {
    const failure = task.failure ?? { type: 'UNKNOWN', message: 'no reason was recorded', nonRetryable: false };
    const count = task.attempt === 1 ? '1 attempt' : `${task.attempt} attempts`;
    super(`task ${task.id} (${task.kind}) failed after ${count}: ${failure.type}: ${failure.message}`);
    this.taskId = task.id;
    this.kind = task.kind;
    this.type = failure.type;
    this.failure = failure;
    this.attempts = attempts;
  }

  /** One of another copy of this package is one, too: worker, command and program may each have their own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isNamed(value, 'TaskFailed');
  }
}

/** Thrown by a task handle's `result()`: the task was cancelled. */
export class TaskCancelled extends Error {
  override readonly name = 'TaskCancelled';
  readonly taskId: string;
  readonly reason: string;

  constructor(task: TaskView) {
    const reason = task.cancelReason ?? '';
    super(`task ${task.id} (${task.kind}) was cancelled${reason === '' ? '' : `: ${reason}`}`);
    this.taskId = task.id;
    this.reason = reason;
  }

  /** One of another copy of this package is one, too: worker, command and program may each have their own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isNamed(value, 'TaskCancelled');
  }
}

/** Thrown by a run handle's `result()`: a node failed, and with it the run. */
export class RunFailed extends Error {
  override readonly name = 'RunFailed';
  readonly runId: string;
  /** '' where it was no node's failure. */
  readonly failedNodeId: string;
  readonly run: RunView;

  constructor(run: RunView) {
    const node = run.failedNodeId === undefined ? '' : ` at node "${run.failedNodeId}"`;
    super(`run ${run.id} (${run.workflowName}) failed${node}: ${run.failureMessage ?? 'no reason was recorded'}`);
    this.runId = run.id;
    this.failedNodeId = run.failedNodeId ?? '';
    this.run = run;
  }

  /** One of another copy of this package is one, too: worker, command and program may each have their own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isNamed(value, 'RunFailed');
  }
}

/** Thrown by a run handle's `result()`: the run was cancelled. */
export class RunCancelled extends Error {
  override readonly name = 'RunCancelled';
  readonly runId: string;
  readonly reason: string;
  readonly run: RunView;

  constructor(run: RunView) {
    const reason = run.cancelReason ?? '';
    super(`run ${run.id} (${run.workflowName}) was cancelled${reason === '' ? '' : `: ${reason}`}`);
    this.runId = run.id;
    this.reason = reason;
    this.run = run;
  }

  /** One of another copy of this package is one, too: worker, command and program may each have their own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isNamed(value, 'RunCancelled');
  }
}
