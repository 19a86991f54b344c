import { isTerminal } from '@baton/domain';
import type { ModelDatabase, ModelTask } from './model/index.ts';
import type { ObservedSession, ObservedTask } from './observe.ts';

/** The model's tasks, as `observeTasks` sees those of Postgres. */
export function observeModelTasks(db: ModelDatabase): Map<string, ObservedTask> {
  return new Map([...db.tasks].map(([id, task]) => [id, observeTask(db, task)]));
}

function observeTask(db: ModelDatabase, task: ModelTask): ObservedTask {
  const now = db.now();
  const { lease, dueAtMs, startDeadline } = task;
  const ended = isTerminal(task.state);
  const outcome = task.outcomes.at(-1);
  const end = outcome && [outcome.state, outcome.epoch, outcome.attempt, outcome.workerId, outcome.failure?.type];
  return {
    id: task.id,
    state: task.state,
    epoch: outcome?.epoch ?? task.epoch,
    attempt: outcome?.attempt ?? task.attempt,
    charged: ended ? '0/0/0' : `${task.crashes}/${task.infra}/${task.ooms}`,
    laneId: ended ? 0 : task.laneId,
    sessionId: lease?.sessionId ?? null,
    cancelReason: outcome ? outcome.cancelReason : (lease?.cancelReason ?? null),
    position: task.position,
    due: lease ? lease.startedAtMs !== null : dueAtMs === null ? null : dueAtMs <= now,
    tooLate: startDeadline && startDeadline.expiresAtMs <= now,
    history: task.attempts.map((a) => joined([a.epoch, a.attempt, a.state, a.retryDelayMs, a.failure?.type])),
    end: end ? joined(end) : null,
  };
}

/** As concat_ws does it: what is null is left out. */
const joined = (parts: readonly (string | number | null | undefined)[]) => parts.filter((p) => p != null).join(':');

export function observeModelSessions(db: ModelDatabase): Map<string, ObservedSession> {
  const newest = new Set([...db.workers.values()].map((worker) => worker.sessionId));
  return new Map(
    [...db.sessions.values()].map((s) => [
      s.id,
      {
        id: s.id,
        workerId: s.workerId,
        state: s.state,
        shutdown: s.shutdown,
        heldBack: s.heldBack,
        reason: s.reason,
        beat: s.beat.toString(),
        recall: s.recall,
        over: s.expiresAtMs <= db.now(),
        newest: newest.has(s.id),
        leases: s.leases.size,
      },
    ]),
  );
}
