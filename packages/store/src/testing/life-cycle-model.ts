import { compareIds, ID_EPOCH_MS, isTerminal, mayMove, type TaskState } from '@baton/domain';
import type { Want } from '../claim.ts';
import type { Settlement } from '../settle.ts';
import type { ObservedTask } from './observe.ts';

/** What the model expects of a task, beside what can be observed. */
export interface ModelTask extends ObservedTask {
  laneId: number;
  priority: number;
  /** Of `scheduled`: the time that gives it its place. ms since the epoch. */
  dueAtMs: number | null;
  /** Whether promoteDue moves it now; meant while it waits. */
  isDue: boolean;
  /** Its input rides along in ready. */
  inline: boolean;
}

export interface ModelSession {
  id: string;
  worker: string;
  state: 'active' | 'draining' | 'closed';
  expired: boolean;
}

export interface ExpectedGrant {
  sessionId: string;
  taskId: string;
  epoch: number;
  attempt: number;
  inline: boolean;
}

/** A step that the transition table of the domain does not have. */
export class IllegalTransition extends Error {
  override readonly name = 'IllegalTransition';
}

/** What the statements should do, without a database. Each method is one statement, or one thing that time does. */
export class LifeCycleModel {
  readonly tasks = new Map<string, ModelTask>();
  readonly sessions = new Map<string, ModelSession>();
  readonly pausedLanes = new Set<number>();

  submit(task: Omit<ModelTask, keyof ObservedTask | 'isDue'> & { id: string }, isDue: boolean): void {
    const { id } = task;
    if (this.tasks.has(id)) return;
    const observed = { epoch: 0, attempt: 0, crashes: 0, sessionId: null, cancelReason: null, history: [] };
    const stored: ModelTask = { ...task, ...observed, state: 'ready', position: id, isDue };
    if (task.dueAtMs !== null) Object.assign(stored, { state: 'scheduled', position: null, inline: false });
    if (!mayMove('none', stored.state)) throw new IllegalTransition(`none → ${stored.state}`);
    this.tasks.set(id, stored);
  }

  /** Removes nothing yet: says which tasks the claim has to grant, and to whom; then they are leased. */
  claim(laneIds: readonly number[], wants: readonly Want[]): ExpectedGrant[] {
    const total = wants.reduce((sum, want) => sum + want.count, 0);
    const heads = this.in('ready')
      .filter((task) => laneIds.includes(task.laneId) && !this.pausedLanes.has(task.laneId))
      .sort((a, b) => b.priority - a.priority || compareIds(a.position!, b.position!))
      .slice(0, total);
    const granted: ExpectedGrant[] = [];
    let from = 0;
    for (const { sessionId, count } of wants) {
      const share = heads.slice(from, from + count);
      from += count;
      const session = this.sessions.get(sessionId);
      if (session?.state !== 'active' || session.expired) continue;
      for (const task of share) {
        const inline = task.inline;
        this.move(task, 'leased', { epoch: task.epoch + 1, attempt: task.attempt + 1, sessionId, inline: false });
        granted.push({ sessionId, taskId: task.id, epoch: task.epoch, attempt: task.attempt, inline });
      }
    }
    return granted;
  }

  /** The lease that a worker's word is about, if it holds. */
  held(word: { taskId: string; epoch: number; sessionId: string }): ModelTask | undefined {
    const task = this.tasks.get(word.taskId);
    return task?.state === 'leased' && task.epoch === word.epoch && task.sessionId === word.sessionId
      ? task
      : undefined;
  }

  complete(task: ModelTask): void {
    this.endLease(task, 'succeeded');
    this.move(task, 'succeeded', { crashes: 0, position: null, cancelReason: null });
  }

  settle(task: ModelTask, s: Pick<Settlement, 'attempt' | 'next' | 'delayMs' | 'budget'>): void {
    this.endLease(task, s.attempt);
    const ended = isTerminal(s.next);
    this.move(task, s.next, {
      attempt: s.attempt === 'returned' && !ended ? task.attempt - 1 : task.attempt,
      crashes: ended ? 0 : task.crashes + Number(s.budget === 'crash'),
      position: s.next === 'ready' ? task.position : null,
      cancelReason: ended ? task.cancelReason : null,
      dueAtMs: null,
      isDue: s.delayMs === 0,
    });
  }

  failToStart(task: ModelTask): void {
    this.move(task, 'failed', { crashes: 0, position: null, cancelReason: null });
  }

  cancel(task: ModelTask, reason: string): 'cancelled' | 'leased' | 'ended' {
    if (isTerminal(task.state)) return 'ended';
    if (task.state === 'leased') {
      task.cancelReason ??= reason;
      return 'leased';
    }
    this.move(task, 'cancelled', { crashes: 0, position: null, cancelReason: reason });
    return 'cancelled';
  }

  /** Everything that is due. A scheduled task takes the place of its time, a retry keeps its own. */
  promote(): ModelTask[] {
    const due = [...this.in('scheduled'), ...this.in('backoff')].filter((task) => task.isDue);
    for (const task of due) {
      const at = task.state === 'scheduled' ? BigInt(task.dueAtMs! - ID_EPOCH_MS) << 22n : 0n;
      this.move(task, 'ready', { position: (at > BigInt(task.id) ? at : BigInt(task.id)).toString(), isDue: false });
    }
    return due;
  }

  in(state: TaskState): ModelTask[] {
    return [...this.tasks.values()].filter((task) => task.state === state);
  }

  private endLease(task: ModelTask, as: string): void {
    task.history.push(`${task.epoch}:${task.attempt}:${as}`);
    task.sessionId = null;
  }

  private move(task: ModelTask, to: TaskState, change: Partial<ModelTask>): void {
    if (!mayMove(task.state, to)) throw new IllegalTransition(`${task.id}: ${task.state} → ${to}`);
    Object.assign(task, change, { state: to });
  }
}
