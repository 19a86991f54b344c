import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { indexHistory } from '../history-index.ts';

/** 3: attempts are 1..k without a gap; epochs strictly increase, by one. An attempt that was handed back at no cost keeps its number. */
export function checkAttemptNumbers(history: History): InvariantResult {
  const found = findings(3, 'attempts 1..k, epochs increase');
  for (const [taskId, grants] of indexHistory(history).grants) {
    let attempt = 1;
    grants.forEach((grant, i) => {
      found.exercise();
      const where = { taskId, epoch: grant.epoch };
      const before = i === 0 ? 0 : grants[i - 1]!.epoch;
      if (grant.epoch !== before + 1) found.violate(`task ${taskId}: epoch ${grant.epoch} follows ${before}`, where);
      if (grant.attempt !== attempt)
        found.violate(`task ${taskId}: epoch ${grant.epoch} is attempt ${grant.attempt}, not ${attempt}`, where);
      attempt = grant.attempt + (grant.ended?.state === 'returned' ? 0 : 1);
    });
  }
  return found.result();
}

/** 4: for attempts i < j: grant(j) ≥ min(end(i), final expiry(i)). */
export function checkLeaseOrder(history: History): InvariantResult {
  const found = findings(4, 'no grant before the end or expiry of an earlier lease');
  const { grants, sessions } = indexHistory(history);
  for (const [taskId, list] of grants) {
    let latest = Number.NEGATIVE_INFINITY;
    let by = 0;
    for (const grant of list) {
      if (by > 0) {
        found.exercise();
        if (grant.grantedAtMs < latest)
          found.violate(
            `task ${taskId}: epoch ${grant.epoch} was granted ${(latest - grant.grantedAtMs).toFixed(3)} ms before epoch ${by} was over`,
            { taskId, epoch: grant.epoch },
          );
      }
      const end = grant.ended?.endedAtMs ?? Number.POSITIVE_INFINITY;
      const over = Math.min(end, sessions.get(grant.sessionId)?.expiresAtMs ?? Number.POSITIVE_INFINITY);
      if (over > latest) [latest, by] = [over, grant.epoch];
    }
  }
  return found.result();
}
