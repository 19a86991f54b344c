import { EVENT } from '@baton/domain';
import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { indexHistory, push } from '../history-index.ts';

/**
 * 12: no new grant after an acknowledged cancel. By the log: none behind the event of a cancel, or of its request. By clients: none
 * after the answer.
 */
export function checkCancels(history: History): InvariantResult {
  const found = findings(12, 'no grant after an acknowledged cancel');
  const { grants, events } = indexHistory(history);
  const { clockToleranceMs, raceMs } = history.settings;
  for (const [taskId, list] of events) {
    const at = list.findIndex((e) => e.type === EVENT.taskCancelRequested || e.type === EVENT.taskCancelled);
    if (at < 0) continue;
    found.exercise();
    if (list.slice(at).some((e) => e.type === EVENT.taskLeased))
      found.violate(`task ${taskId} was granted after its cancel`, { taskId });
  }
  if (!history.operations) found.skip('no operations of clients were recorded');
  const ofRun = new Map<string, string[]>();
  for (const task of history.database.tasks) if (task.runId !== null) push(ofRun, task.runId, task.id);
  const runs = new Map(history.database.runs.map((r) => [r.id, r]));

  const check = (taskId: string, afterMs: number) => {
    const late = grants.get(taskId)?.find((g) => g.grantedAtMs > afterMs);
    if (late)
      found.violate(
        `task ${taskId} was granted ${Math.round(late.grantedAtMs - afterMs)} ms after its cancel was acknowledged`,
        {
          taskId,
          epoch: late.epoch,
        },
      );
  };
  for (const op of history.operations ?? []) {
    if (op.outcome !== 'ok' || op.answeredAtMs === null) continue;
    if (op.type === 'cancel') {
      found.exercise();
      check(op.taskId, op.answeredAtMs + clockToleranceMs);
    } else if (op.type === 'cancel_run' && runs.get(op.runId)?.execution === 1) {
      // The run is asked; its tasks follow with its next advance.
      found.exercise();
      for (const taskId of ofRun.get(op.runId) ?? []) check(taskId, op.answeredAtMs + clockToleranceMs + raceMs);
    }
  }
  return found.result();
}
