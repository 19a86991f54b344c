import {
  type Budget,
  budgetOf,
  CRASH_DELAY_MS,
  EVENT,
  MAX_CRASH_DELAY_MS,
  MAX_RETRY_AFTER_MS,
  MEMORY_RETRIES,
  type RetryPolicy,
} from '@baton/domain';
import type { AttemptRow, TaskRow } from '../database-dump.ts';
import { findings, type InvariantResult } from '../findings.ts';
import type { History, HistorySettings } from '../history.ts';
import { indexHistory } from '../history-index.ts';

/** What doubles and Postgres's microseconds may make of a sum, ms. */
const ROUNDING_MS = 0.01;

/**
 * 9: grant(n+1) − end(n) ≥ the policy's delay; attempts ≤ the maximum of each budget; none after a non-retryable failure. The
 * policy's delay is computed here anew, not by the function that chose it.
 */
export function checkRetries(history: History): InvariantResult {
  const found = findings(9, 'delays kept, budgets kept, nothing after a final failure');
  const { settings } = history;
  const { tasks, grants } = indexHistory(history);
  const isDriver = driversOf(history);
  const hasWritten = journalWritesOf(history);
  const hasSaved = savesOf(history);
  for (const [taskId, list] of grants) {
    const task = tasks.get(taskId);
    if (!task) continue;
    const policy: RetryPolicy = { ...settings.retry, ...task.retry, maxAttempts: task.maxAttempts };
    const used: Record<Budget, number> = { none: 0, application: 0, crash: 0, infra: 0, memory: 0 };
    // Losses that count at least: fewer than `used`, where it is not known whether they were forgotten.
    let leastLosses = 0;
    list.forEach(({ ended, epoch, grantedAtMs }, i) => {
      // What kills its worker from here on is something else than what did before.
      if (ended && (hasSaved(ended) || (isDriver(task) && hasWritten(task, grantedAtMs, ended.endedAtMs))))
        leastLosses = used.crash = 0;
      // A function that waits has come so far; handed back, it has not. Both are written down as returned.
      if (ended?.state === 'returned' && isDriver(task)) leastLosses = 0;
      if (ended?.state !== 'failed' && ended?.state !== 'lost') return;
      const budget = ended.state === 'lost' ? 'crash' : budgetOf(ended.failure?.type ?? 'UNKNOWN');
      const failures = ++used[budget];
      const leastFailures = budget === 'crash' ? ++leastLosses : failures;
      const next = list[i + 1];
      if (!next) return;
      found.exercise();
      const where = { taskId, epoch: next.epoch };
      const after = `task ${taskId} was granted again after epoch ${epoch}`;
      if (ended.failure?.nonRetryable) found.violate(`${after}, whose failure is not to be retried`, where);
      else if (leastFailures >= limitOf(budget, policy, settings))
        found.violate(
          `${after}, the ${leastFailures}. of budget ${budget}, of which ${limitOf(budget, policy, settings)} end it`,
          where,
        );
      const chosenMs = ended.retryDelayMs ?? 0;
      const [leastMs] = delayOf(budget, leastFailures, policy, ended);
      const [, mostMs] = delayOf(budget, failures, policy, ended);
      if (chosenMs < leastMs || chosenMs > mostMs)
        found.violate(
          `the delay after epoch ${epoch} of task ${taskId} is ${chosenMs} ms; the policy says ${leastMs} to ${mostMs}`,
          where,
        );
      const waitedMs = next.grantedAtMs - ended.endedAtMs;
      if (waitedMs + ROUNDING_MS < chosenMs)
        found.violate(`${after} ${waitedMs.toFixed(3)} ms later, not after ${chosenMs}`, where);
    });
  }
  return found.result();
}

/** Whether a task is a durable function. */
function driversOf({ database }: History): (task: TaskRow) => boolean {
  const functions = new Set(database.runs.filter(({ form }) => form === 'function').map(({ id }) => id));
  return ({ runId, nodeId }) => runId !== null && nodeId === null && functions.has(runId);
}

/** Whether a function added to its journal in this time: that forgets its crashes. */
function journalWritesOf({ database }: History): (task: TaskRow, fromMs: number, toMs: number) => boolean {
  const writes = new Map<string, number[]>();
  for (const { runId, atMs } of database.journal ?? []) if (!writes.get(runId)?.push(atMs)) writes.set(runId, [atMs]);
  return ({ runId }, fromMs, toMs) => (writes.get(runId!) ?? []).some((atMs) => atMs >= fromMs && atMs <= toMs);
}

/** Whether a new checkpoint was saved in this attempt: that forgets crashes, too. Of those that were deleted since, the log tells. */
function savesOf(history: History): (attempt: AttemptRow) => boolean {
  const kept = new Set(history.database.checkpoints.map(({ taskId, epoch }) => `${taskId} ${epoch}`));
  const { events } = indexHistory(history);
  return ({ taskId, epoch, grantedAtMs, endedAtMs }) =>
    kept.has(`${taskId} ${epoch}`) ||
    (events.get(taskId) ?? []).some(
      ({ type, atMs }) => type === EVENT.checkpointSaved && atMs >= grantedAtMs && atMs <= endedAtMs,
    );
}

/** So many failures of a budget end the task. */
function limitOf(budget: Budget, policy: RetryPolicy, settings: HistorySettings): number {
  if (budget === 'crash') return settings.poisonCrashes;
  return budget === 'memory' ? MEMORY_RETRIES + 1 : policy.maxAttempts;
}

/** Least and most delay after the n-th failure of a budget, ms. */
function delayOf(
  budget: Budget,
  failures: number,
  policy: RetryPolicy,
  { state, failure }: AttemptRow,
): [number, number] {
  if (budget !== 'crash' && failure?.retryAfterMs !== undefined) {
    const asked = Math.min(MAX_RETRY_AFTER_MS, Math.max(0, Math.round(failure.retryAfterMs)));
    return [asked, asked];
  }
  let exactMs = Math.min(policy.maxDelayMs, policy.initialDelayMs * policy.factor ** (failures - 1));
  if (budget === 'crash')
    exactMs = failures === 1 ? 0 : Math.min(MAX_CRASH_DELAY_MS, CRASH_DELAY_MS * 2 ** (failures - 2));
  // The sweep spreads nothing.
  const jitter = state === 'lost' ? 0 : policy.jitter;
  return [Math.floor(exactMs * (1 - jitter)), Math.ceil(exactMs)];
}
