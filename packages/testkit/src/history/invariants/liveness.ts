import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { indexHistory } from '../history-index.ts';

/** 16: within T after the faults stop, every task is terminal, no lease is orphaned, pools are idle. */
export function checkLiveness(history: History): InvariantResult {
  const found = findings(16, 'all settled in time, no orphaned lease, idle pools');
  const { database, settings } = history;
  const { outcomes, places, sessions } = indexHistory(history);
  const { settledAtMs, lastFaultAtMs, livenessMs } = settings;

  for (const lease of database.leases) {
    found.exercise();
    const session = sessions.get(lease.sessionId);
    const where = { taskId: lease.taskId, epoch: lease.epoch };
    if (!session) found.violate(`task ${lease.taskId} is leased by a session that is not there`, where);
    else if (session.expiresAtMs + livenessMs < database.takenAtMs)
      found.violate(`task ${lease.taskId} is leased by session ${session.id}, whose time has long been over`, where);
  }
  if (settledAtMs === null) {
    found.skip('the work goes on: nobody says that it has settled');
    return found.result();
  }
  if (lastFaultAtMs === null)
    found.skip('the time of the last fault was not recorded: only that all has ended is checked');
  for (const task of database.tasks) {
    const dueMs =
      Math.max(lastFaultAtMs ?? Number.NEGATIVE_INFINITY, task.createdAtMs, task.dueAtMs ?? Number.NEGATIVE_INFINITY) +
      livenessMs;
    const end = outcomes.get(task.id);
    if (!end && dueMs > settledAtMs && (task.dueAtMs ?? 0) > settledAtMs) continue; // scheduled for later
    found.exercise();
    if (!end)
      found.violate(`task ${task.id} has not ended: ${places.get(task.id)?.[0]?.state ?? 'nowhere'}`, {
        taskId: task.id,
      });
    else if (lastFaultAtMs !== null && end.endedAtMs > dueMs)
      found.violate(`task ${task.id} ended ${Math.round((end.endedAtMs - dueMs) / 1000)} s late`, { taskId: task.id });
  }
  for (const run of database.runs) {
    found.exercise();
    if (run.state === 'pending' || run.state === 'running' || run.state === 'waiting')
      found.violate(`run ${run.id} is ${run.state}`, { runId: run.id });
  }
  if (database.advances > 0) found.violate(`${database.advances} steps of runs are not done`);
  if (!database.activity) found.skip('connections were not looked at');
  else {
    found.exercise();
    const { active, idleInTransaction } = database.activity;
    if (active > 0) found.violate(`${active} statements go on`);
    if (idleInTransaction > 0) found.violate(`${idleInTransaction} connections are idle in a transaction`);
  }
  return found.result();
}
