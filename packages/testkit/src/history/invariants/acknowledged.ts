import type { RunRow, TaskRow } from '../database-dump.ts';
import { findings, type InvariantResult } from '../findings.ts';
import type { ClientOperation, History } from '../history.ts';
import { indexHistory } from '../history-index.ts';
import { isDenied } from './answers.ts';

/** 1: acknowledged ⊆ final ⊆ invoked. An unknown operation may land either way. */
export function checkAcknowledged(history: History): InvariantResult {
  const found = findings(1, 'acknowledged ⊆ final ⊆ invoked');
  const { operations, database } = history;
  if (!operations) {
    found.skip('no operations of clients were recorded');
    return found.result();
  }
  const { tasks, outcomes } = indexHistory(history);
  const runs = new Map(database.runs.map((r) => [r.id, r]));
  const taskOfMark = new Map(
    database.tasks.flatMap((t): [string, TaskRow][] => (t.mark === null ? [] : [[t.mark, t]])),
  );
  const runOfMark = new Map(database.runs.flatMap((r): [string, RunRow][] => (r.mark === null ? [] : [[r.mark, r]])));
  const invoked = invokedBy(operations);

  for (const op of operations) {
    if (op.type === 'submit' && op.outcome === 'ok') {
      found.exercise();
      const task = op.taskId === undefined ? undefined : tasks.get(op.taskId);
      if (!task) found.violate(`task ${op.taskId} was acknowledged and is not there`, { taskId: op.taskId });
      else if (op.key === null && op.mark !== null && task.mark !== op.mark)
        found.violate(`the submit marked ${op.mark} was answered with the task of another one`, { taskId: task.id });
    } else if (op.type === 'start_run' && op.outcome === 'ok') {
      found.exercise();
      const run = op.runId === undefined ? undefined : runs.get(op.runId);
      if (!run) found.violate(`run ${op.runId} was acknowledged and is not there`, { runId: op.runId });
      else if (op.key === null && op.mark !== null && run.mark !== op.mark)
        found.violate(`the run marked ${op.mark} was answered with another one`, { runId: run.id });
    } else if ((op.type === 'submit' || op.type === 'start_run') && op.outcome === 'fail' && !isDenied(op)) {
      if (op.mark === null || invoked.marks.has(op.mark)) continue;
      found.exercise();
      const landed = (op.type === 'submit' ? taskOfMark : runOfMark).get(op.mark);
      if (landed)
        found.violate(`the ${op.type} marked ${op.mark} was refused (${op.reason}), and is there all the same`, {
          [op.type === 'submit' ? 'taskId' : 'runId']: landed.id,
        });
    } else if (op.type === 'resend' && op.outcome === 'ok') {
      found.exercise();
      const again = op.newTaskId === undefined ? undefined : tasks.get(op.newTaskId);
      if (again?.retryOf !== op.taskId)
        found.violate(`task ${op.taskId} was acknowledged as sent again by ${op.newTaskId}, which is not so`, {
          taskId: op.taskId,
        });
    } else if (op.type === 'cancel' && op.outcome === 'ok' && op.answered === 'cancelled') {
      found.exercise();
      const end = outcomes.get(op.taskId)?.state ?? 'not over';
      if (end !== 'cancelled')
        found.violate(`task ${op.taskId} was acknowledged as cancelled and is ${end}`, { taskId: op.taskId });
    } else if (op.type === 'see_end' && op.outcome === 'ok') {
      found.exercise();
      const end = outcomes.get(op.taskId);
      if (end?.state !== op.state)
        found.violate(`a client saw task ${op.taskId} end as ${op.state}; it is ${end?.state ?? 'not over'}`, {
          taskId: op.taskId,
        });
      else if (op.outputSha256 !== undefined && end.outputSha256 !== null && op.outputSha256 !== end.outputSha256)
        found.violate(`a client saw another output of task ${op.taskId} than is kept`, { taskId: op.taskId });
    }
  }

  for (const task of database.tasks) {
    if (task.runId !== null) continue; // its run is looked at
    found.exercise();
    const known =
      invoked.tasks.has(task.id) ||
      (task.mark !== null && invoked.marks.has(task.mark)) ||
      (task.retryOf !== null && invoked.resent.has(task.retryOf));
    if (!known && !(task.mark !== null && invoked.refused.has(task.mark)))
      found.violate(`nobody submitted task ${task.id}`, { taskId: task.id });
  }
  for (const run of database.runs) {
    found.exercise();
    const known =
      (run.parentRunId ?? null) !== null ||
      invoked.runs.has(run.id) ||
      (run.mark !== null && (invoked.marks.has(run.mark) || invoked.refused.has(run.mark)));
    if (!known) found.violate(`nobody started run ${run.id}`, { runId: run.id });
  }
  return found.result();
}

/** What may be there, by what clients asked for. Refused marks are looked at one by one. */
function invokedBy(operations: readonly ClientOperation[]) {
  const marks = new Set<string>();
  const refused = new Set<string>();
  const tasks = new Set<string>();
  const runs = new Set<string>();
  const resent = new Set<string>();
  for (const op of operations) {
    if (op.type === 'submit' || op.type === 'start_run') {
      if (op.mark !== null) (op.outcome === 'fail' ? refused : marks).add(op.mark);
      if (op.outcome === 'ok' && op.type === 'submit' && op.taskId !== undefined) tasks.add(op.taskId);
      if (op.outcome === 'ok' && op.type === 'start_run' && op.runId !== undefined) runs.add(op.runId);
    } else if (op.type === 'resend' && op.outcome !== 'fail') resent.add(op.taskId);
  }
  return { marks, refused, tasks, runs, resent };
}
