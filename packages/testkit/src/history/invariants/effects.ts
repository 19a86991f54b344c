import { findings, type InvariantResult } from '../findings.ts';
import type { Effect, History } from '../history.ts';
import { type Grant, indexHistory } from '../history-index.ts';

/** 14: real processes may overlap only after expiry, and only one epoch's effects are accepted. */
export function checkEffects(history: History): InvariantResult {
  const found = findings(14, 'processes overlap only after expiry, one epoch is accepted');
  if (!history.effects) {
    found.skip('the effects of workers were not recorded');
    return found.result();
  }
  const index = indexHistory(history);
  const { clockToleranceMs } = history.settings;
  const reported = reportedBy(history);
  for (const [taskId, effects] of index.effects) {
    const byEpoch = new Map<number, Effect>();
    for (const effect of effects) {
      found.exercise();
      const where = { taskId, epoch: effect.epoch };
      const grant = index.grant(taskId, effect.epoch);
      if (grant?.sessionId !== effect.sessionId)
        found.violate(`task ${taskId} was worked on by a session that did not hold epoch ${effect.epoch}`, where);
      else if (effect.startedAtMs + clockToleranceMs < grant.grantedAtMs)
        found.violate(`work on epoch ${effect.epoch} of task ${taskId} began before it was granted`, where);
      if (byEpoch.has(effect.epoch))
        found.violate(`epoch ${effect.epoch} of task ${taskId} was worked on twice`, where);
      byEpoch.set(effect.epoch, effect);
    }
    for (const [earlier, later] of overlaps([...byEpoch.values()])) {
      const grant = index.grant(taskId, earlier.epoch);
      if (grant && !mayOutlive(grant, reported))
        found.violate(
          `epochs ${earlier.epoch} and ${later.epoch} of task ${taskId} were worked on at once, and the first had not expired`,
          { taskId, epoch: later.epoch },
        );
    }
    const outcome = index.outcomes.get(taskId);
    if (outcome?.state !== 'succeeded') continue;
    const effect = byEpoch.get(outcome.epoch);
    if (!effect)
      found.violate(`task ${taskId} succeeded in epoch ${outcome.epoch}, which nobody worked on`, { taskId });
    else if (
      effect.outputSha256 !== undefined &&
      outcome.outputSha256 !== null &&
      effect.outputSha256 !== outcome.outputSha256
    )
      found.violate(`the output of task ${taskId} is not that of epoch ${outcome.epoch}`, { taskId });
  }
  return found.result();

  /** Pairs of different epochs that ran at the same time, by epoch. */
  function overlaps(effects: readonly Effect[]): [Effect, Effect][] {
    const pairs: [Effect, Effect][] = [];
    const byEpoch = effects.toSorted((a, b) => a.epoch - b.epoch);
    byEpoch.forEach((earlier, i) => {
      for (const later of byEpoch.slice(i + 1)) {
        const from = Math.max(earlier.startedAtMs, later.startedAtMs);
        const to = Math.min(earlier.endedAtMs ?? Number.POSITIVE_INFINITY, later.endedAtMs ?? Number.POSITIVE_INFINITY);
        if (to - from > clockToleranceMs) pairs.push([earlier, later]);
      }
    });
    return pairs;
  }
}

/** Leases that their worker itself ended, as `task epoch session`; null: not recorded. */
function reportedBy({ calls }: History): ReadonlySet<string> | null {
  if (!calls) return null;
  const ended = calls.filter((c) => c.type === 'complete' && c.outcome === 'ok');
  return new Set(ended.map((c) => (c.type === 'complete' ? `${c.taskId} ${c.epoch} ${c.sessionId}` : '')));
}

/**
 * Whether a process of this lease may still have been there when the next one began: the lease expired, or the master took it back,
 * and the worker did not know. A worker that reports an end has no process left.
 */
function mayOutlive(grant: Grant, reported: ReadonlySet<string> | null): boolean {
  const { ended } = grant;
  if (!ended || ended.state === 'lost') return true;
  if (ended.state === 'returned') return ended.failure !== null;
  if (reported) return !reported.has(`${grant.taskId} ${grant.epoch} ${grant.sessionId}`);
  return ended.failure?.type === 'TASK_TIMEOUT';
}
