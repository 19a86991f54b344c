import { EVENT } from '@baton/domain';
import type { CheckpointRow } from '../database-dump.ts';
import { type Findings, findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { indexHistory, push } from '../history-index.ts';

/**
 * 6: checkpoint numbers increase without a gap; attempt n starts from the highest one committed before its grant. Old checkpoints
 * are pruned, so the log says how many there were: one event for each.
 */
export function checkCheckpoints(history: History): InvariantResult {
  const found = findings(6, 'checkpoints without a gap, attempts start from the newest');
  const { checkpoints, checkpointCounters } = history.database;
  if (!checkpointCounters) {
    found.skip('this schema has no checkpoints');
    return found.result();
  }
  const index = indexHistory(history);
  const byTask = new Map<string, CheckpointRow[]>();
  for (const row of checkpoints) push(byTask, row.taskId, row);
  for (const [taskId, rows] of byTask) checkRows(taskId, rows, checkpointCounters.get(taskId) ?? 0, found);
  checkSaves(history, found);

  for (const task of history.database.tasks) {
    const last = checkpointCounters.get(task.id) ?? 0;
    const effects = index.effects.get(task.id) ?? [];
    if (!index.hasAllEvents(task)) continue;
    if (last === 0 && effects.length === 0 && !byTask.has(task.id)) continue;
    const saved = savedBefore(index.events.get(task.id) ?? []);
    if (saved.total !== last) {
      found.violate(`task ${task.id} has saved ${saved.total} checkpoints; the last has number ${last}`, {
        taskId: task.id,
      });
      continue;
    }
    for (const { epoch, resumedFrom } of effects) {
      if (resumedFrom === undefined) continue;
      found.exercise();
      const newest = saved.atGrant[epoch - 1] ?? 0;
      if ((resumedFrom ?? 0) !== newest)
        found.violate(
          `epoch ${epoch} of task ${task.id} started from checkpoint ${resumedFrom ?? 'none'}, not ${newest || 'none'}`,
          {
            taskId: task.id,
            epoch,
          },
        );
    }
  }
  return found.result();
}

function checkRows(taskId: string, rows: readonly CheckpointRow[], last: number, found: Findings): void {
  let before: CheckpointRow | undefined;
  for (const row of rows.toSorted((a, b) => a.number - b.number)) {
    found.exercise();
    const where = { taskId, epoch: row.epoch };
    if (row.number < 1 || row.number > last)
      found.violate(`checkpoint ${row.number} of task ${taskId} is outside of 1 to ${last}`, where);
    if (before && row.number === before.number)
      found.violate(`task ${taskId} has two checkpoints ${row.number}`, where);
    if (before && (row.epoch < before.epoch || row.createdAtMs < before.createdAtMs))
      found.violate(`checkpoint ${row.number} of task ${taskId} is older than checkpoint ${before.number}`, where);
    before = row;
  }
}

/** A number is given to one save, and a save has one number, however often it is repeated. */
function checkSaves({ calls }: History, found: Findings): void {
  const numberOf = new Map<string, number>();
  const saveOf = new Map<string, string>();
  for (const call of calls ?? []) {
    if (call.type !== 'checkpoint' || call.outcome !== 'ok' || call.number === undefined) continue;
    found.exercise();
    const save = `${call.taskId} ${call.saveId}`;
    const number = `${call.taskId} ${call.number}`;
    const where = { taskId: call.taskId, epoch: call.epoch };
    if ((numberOf.get(save) ?? call.number) !== call.number)
      found.violate(
        `one save of task ${call.taskId} was answered with the numbers ${numberOf.get(save)} and ${call.number}`,
        where,
      );
    if ((saveOf.get(number) ?? save) !== save)
      found.violate(`two saves of task ${call.taskId} were answered with the number ${call.number}`, where);
    numberOf.set(save, call.number);
    saveOf.set(number, save);
  }
}

/** How many checkpoints there were at each grant, and in all. */
function savedBefore(events: readonly { type: number }[]): { atGrant: number[]; total: number } {
  const atGrant: number[] = [];
  let total = 0;
  for (const { type } of events)
    if (type === EVENT.checkpointSaved) total++;
    else if (type === EVENT.taskLeased) atGrant.push(total);
  return { atGrant, total };
}
