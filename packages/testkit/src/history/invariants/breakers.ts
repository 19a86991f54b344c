import { BREAKER_TRANSITIONS, type BreakerPolicy, MACHINE_MADE } from '@baton/domain';
import type { AttemptRow, BreakerChange } from '../database-dump.ts';
import { type Findings, findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { type Grant, indexHistory, push } from '../history-index.ts';

/** Between a look at the failures and the step that follows from it: where a connection has to be given up in between, ms. */
const STATEMENT_MS = 10_000;

/**
 * 10: breaker edges are only the legal ones; no grant while OPEN; one probe at a time in HALF_OPEN. Grants are checked against
 * the worker's own breaker: a lease does not say which device it is for.
 */
export function checkBreakers(history: History): InvariantResult {
  const found = findings(10, 'legal breaker steps, no grant while open, one probe');
  const { breakerChanges, attempts } = history.database;
  if (!breakerChanges) {
    found.skip('this schema has no breakers');
    return found.result();
  }
  const { grants, workers } = indexHistory(history);
  const byBreaker = new Map<string, BreakerChange[]>();
  for (const change of breakerChanges) push(byBreaker, `${change.workerId} ${change.device}`, change);
  const broken = new Set(breakerChanges.map((c) => c.workerId));
  const granted = new Map<number, Grant[]>();
  for (const list of grants.values())
    for (const grant of list)
      if (grant.workerId !== null && broken.has(grant.workerId)) push(granted, grant.workerId, grant);
  for (const list of granted.values()) list.sort((a, b) => a.grantedAtMs - b.grantedAtMs);
  const ended = new Map<number, AttemptRow[]>();
  for (const attempt of attempts) if (broken.has(attempt.workerId)) push(ended, attempt.workerId, attempt);

  for (const changes of byBreaker.values()) {
    const { workerId, device } = changes[0]!;
    const name = `${workers.get(workerId)?.name ?? `worker ${workerId}`}${device && ` ${device}`}`;
    const resets = resetsOf(history, workers.get(workerId)?.name, device);
    checkSteps(name, changes, resets, found);
    if (history.settings.breaker)
      checkReasons(name, changes, ended.get(workerId) ?? [], resets, history.settings.breaker, history, found);
    if (device === '') checkGrants(name, changes, granted.get(workerId) ?? [], found);
  }
  return found.result();
}

/** Times around which somebody closed this breaker by hand; null: not recorded. */
function resetsOf({ operations }: History, worker: string | undefined, device: string): number | null {
  if (!operations) return null;
  return operations.filter(
    (op) => op.type === 'reset_breaker' && op.outcome !== 'fail' && op.worker === worker && op.device === device,
  ).length;
}

function checkSteps(name: string, changes: readonly BreakerChange[], resets: number | null, found: Findings): void {
  let state: BreakerChange['from'] = 'closed';
  let byHand = 0;
  for (const { from, to } of changes) {
    found.exercise();
    if (from !== state) found.violate(`breaker ${name} was ${state} and went from ${from} to ${to}`);
    else if (!BREAKER_TRANSITIONS[from].includes(to)) found.violate(`breaker ${name} went from ${from} to ${to}`);
    if (from === 'open' && to === 'closed') byHand++;
    state = to;
  }
  if (resets !== null && byHand > resets)
    found.violate(`breaker ${name} was closed while open ${byHand} times; ${resets} resets were asked for`);
}

/** Opens at enough machine-made failures, stays open long enough, closes after enough good probes. */
function checkReasons(
  name: string,
  changes: readonly BreakerChange[],
  attempts: readonly AttemptRow[],
  resets: number | null,
  policy: BreakerPolicy,
  { settings }: History,
  found: Findings,
): void {
  const slackMs = settings.raceMs;
  changes.forEach((change, i) => {
    const before = changes[i - 1];
    if (change.from === 'closed' && change.to === 'open') {
      const fromMs = Math.max(change.atMs - policy.windowMs - STATEMENT_MS, before?.atMs ?? Number.NEGATIVE_INFINITY);
      const failed = attempts.filter(
        (a) => isAbout(a, change.device) && a.endedAtMs >= fromMs && a.endedAtMs <= change.atMs + slackMs,
      );
      const tasks = new Set(failed.map((a) => a.taskId)).size;
      // The loss of a session is one failure, however many tasks it held.
      const failures = new Set(failed.map((a) => (a.state === 'lost' ? a.sessionId : `${a.taskId} ${a.epoch}`))).size;
      if (Math.min(tasks, failures) < policy.failures)
        found.violate(
          `breaker ${name} opened after ${failures} machine-made failures of ${tasks} tasks, not ${policy.failures}`,
        );
    } else if (change.from === 'open' && change.to === 'half_open' && before) {
      const openMs = change.atMs - before.atMs;
      // Where nobody else could take the work, a worker's own opens up after soleOpenMs; who could, history does not say.
      const leastMs = change.device === '' ? Math.min(policy.openMs, policy.soleOpenMs) : policy.openMs;
      if (openMs + slackMs < leastMs)
        found.violate(`breaker ${name} was open for ${Math.round(openMs)} ms, not ${leastMs}`);
    } else if (change.from === 'half_open' && change.to === 'closed' && before && resets === 0) {
      const good = attempts.filter(
        (a) =>
          a.state === 'succeeded' && a.grantedAtMs >= before.atMs - slackMs && a.endedAtMs <= change.atMs + slackMs,
      ).length;
      if (good < policy.successes)
        found.violate(`breaker ${name} closed after ${good} good probes, not ${policy.successes}`);
    }
  });
}

/** A failure that counts against this breaker: the machine's, and of the part of it that the breaker is for. */
function isAbout({ state, failure }: AttemptRow, device: string): boolean {
  if (state !== 'lost' && state !== 'failed') return false;
  return MACHINE_MADE.includes(failure?.type ?? 'UNKNOWN') && (failure?.device ?? '') === device;
}

function checkGrants(name: string, changes: readonly BreakerChange[], grants: readonly Grant[], found: Findings): void {
  changes.forEach(({ to, atMs }, i) => {
    if (to === 'closed') return;
    const untilMs = changes[i + 1]?.atMs ?? Number.POSITIVE_INFINITY;
    const within = grants.filter((g) => g.grantedAtMs > atMs && g.grantedAtMs < untilMs);
    found.exercise(within.length);
    let probe: Grant | null = null;
    for (const grant of within) {
      const where = { taskId: grant.taskId, epoch: grant.epoch };
      if (to === 'open') found.violate(`task ${grant.taskId} was granted to ${name}, whose breaker was open`, where);
      else if (probe && (probe.ended?.endedAtMs ?? Number.POSITIVE_INFINITY) > grant.grantedAtMs)
        found.violate(
          `task ${grant.taskId} was granted to ${name} as a second probe beside task ${probe.taskId}`,
          where,
        );
      probe = grant;
    }
  });
}
