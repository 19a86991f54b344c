import { EVENT, isTerminal, mayMove, type TaskState } from '@baton/domain';
import type { LogEvent, TaskRow } from '../database-dump.ts';
import { type Findings, findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { type HistoryIndex, indexHistory } from '../history-index.ts';

/** Where an event brings its task. A submit does not say whether something else has to be waited for. */
export const STATES_AFTER: Readonly<Record<number, (task: TaskRow) => readonly TaskState[]>> = {
  [EVENT.taskSubmitted]: (task) => (task.dueAtMs === null ? ['ready', 'blocked'] : ['scheduled']),
  [EVENT.taskReady]: () => ['ready'],
  [EVENT.taskLeased]: () => ['leased'],
  [EVENT.taskBackoff]: () => ['backoff'],
  [EVENT.taskSucceeded]: () => ['succeeded'],
  [EVENT.taskFailed]: () => ['failed'],
  [EVENT.taskCancelled]: () => ['cancelled'],
  // A durable function that waits is handed back, and is not ready.
  [EVENT.taskReleased]: (task) => (isDriver(task) ? ['ready', 'blocked', 'scheduled'] : ['ready']),
};

/** It drives the run of a durable function: the task of a run, and of no node. */
function isDriver(task: TaskRow): boolean {
  return task.runId !== null && task.nodeId === null;
}

const TERMINAL_EVENTS: readonly number[] = [EVENT.taskSucceeded, EVENT.taskFailed, EVENT.taskCancelled];

/**
 * 2: exactly one terminal event per task, and it is the last state event; the fold of a task's events equals its row; every
 * transition is in the table. A row is in exactly one place, and agrees with the attempts.
 */
export function checkLifeCycle(history: History): InvariantResult {
  const found = findings(2, 'one end, one place, legal steps');
  const index = indexHistory(history);
  for (const task of history.database.tasks) {
    found.exercise();
    checkPlace(task, index, found);
    if (index.hasAllEvents(task)) foldEvents(task, index, found);
  }
  if (history.database.eventsSinceMs === null)
    for (const [what, ids] of [
      ['events', index.events.keys()],
      ['attempts or leases', index.grants.keys()],
      ['a place', index.places.keys()],
    ] as const)
      for (const taskId of ids)
        if (!index.tasks.has(taskId))
          found.violate(`there are ${what} of task ${taskId}, which is not there`, { taskId });
  return found.result();
}

function checkPlace(task: TaskRow, { places, grants, outcomes }: HistoryIndex, found: Findings): void {
  const where = { taskId: task.id };
  const at = places.get(task.id) ?? [];
  if (at.length !== 1) {
    const states = at.map((p) => p.state).join(', ') || 'nowhere';
    found.violate(`task ${task.id} is in ${at.length} places: ${states}`, where);
    return;
  }
  const all = grants.get(task.id) ?? [];
  const last = all.at(-1);
  if (at[0]!.epoch !== (last?.epoch ?? 0))
    found.violate(
      `task ${task.id} is ${at[0]!.state} with epoch ${at[0]!.epoch}; its last lease has ${last?.epoch ?? 'none'}`,
      where,
    );
  const outcome = outcomes.get(task.id);
  if (outcome && last && !last.ended) found.violate(`task ${task.id} has ended and is leased`, where);
  all.forEach(({ ended, epoch }) => {
    if (ended?.state !== 'succeeded' && ended?.state !== 'cancelled') return;
    if (epoch !== last!.epoch || outcome?.state !== ended.state)
      found.violate(
        `epoch ${epoch} of task ${task.id} ${ended.state}, the task is ${at[0]!.state} with epoch ${last!.epoch}`,
        { ...where, epoch },
      );
  });
  if (outcome?.state === 'succeeded' && last?.ended?.state !== 'succeeded')
    found.violate(`task ${task.id} succeeded, its last attempt ${last?.ended?.state ?? 'is none'}`, where);
}

function foldEvents(task: TaskRow, { events, places }: HistoryIndex, found: Findings): void {
  const where = { taskId: task.id };
  let states: readonly (TaskState | 'none')[] = ['none'];
  let end: LogEvent | undefined;
  for (const event of events.get(task.id) ?? []) {
    const after = STATES_AFTER[event.type]?.(task);
    if (!after) continue;
    const legal = after.filter((to) =>
      states.some((from) => mayMove(from, to) || (from === 'leased' && isDriver(task))),
    );
    if (legal.length === 0) {
      found.violate(`task ${task.id} went from ${states.join(' or ')} to ${after.join(' or ')}`, where);
      return;
    }
    states = legal;
    if (TERMINAL_EVENTS.includes(event.type)) end = event;
  }
  const at = places.get(task.id);
  if (at?.length !== 1) return; // said already
  const place = at[0]!;
  if (!states.some((state) => state === place.state))
    found.violate(`by its events task ${task.id} is ${states.join(' or ')}, by its row ${place.state}`, where);
  else if (end && isTerminal(place.state as TaskState) && end.attempt !== place.attempt)
    found.violate(`task ${task.id} ended in attempt ${place.attempt}; the event says ${end.attempt}`, where);
}
