import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { indexHistory } from '../history-index.ts';
import { isDenied } from './answers.ts';

/** 15: every mutation has an authorized actor; a denied call changed nothing. */
export function checkAuthorization(history: History): InvariantResult {
  const found = findings(15, 'authorized actors, a denied call changed nothing');
  found.skip('actors: there are no tokens yet, so nothing says who may do what');
  const { operations, calls, database } = history;
  const marks = new Map(
    [...database.tasks, ...database.runs].flatMap((row) => (row.mark === null ? [] : [[row.mark, row.id]])),
  );
  const landed = new Set(
    operations?.flatMap((op) =>
      (op.type === 'submit' || op.type === 'start_run') && op.mark !== null && !isDenied(op) ? [op.mark] : [],
    ),
  );
  for (const op of operations ?? []) {
    if (!isDenied(op)) continue;
    found.exercise();
    if ((op.type !== 'submit' && op.type !== 'start_run') || op.mark === null || landed.has(op.mark)) continue;
    const id = marks.get(op.mark);
    if (id !== undefined)
      found.violate(
        `the ${op.type} marked ${op.mark} was denied and is there`,
        op.type === 'submit' ? { taskId: id } : { runId: id },
      );
  }
  const { grant } = indexHistory(history);
  const own = new Set(
    calls?.flatMap((c) => (c.type === 'complete' && !isDenied(c) ? [`${c.taskId} ${c.epoch} ${c.sessionId}`] : [])),
  );
  for (const call of calls ?? []) {
    if (!isDenied(call)) continue;
    found.exercise();
    if (call.type !== 'complete' || own.has(`${call.taskId} ${call.epoch} ${call.sessionId}`)) continue;
    const ended = grant(call.taskId, call.epoch)?.ended;
    if (ended?.state === call.reported && call.reported !== 'failed')
      found.violate(`a denied completion of task ${call.taskId}, epoch ${call.epoch}, was taken`, {
        taskId: call.taskId,
        epoch: call.epoch,
      });
  }
  return found.result();
}
