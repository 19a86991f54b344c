import type { AttemptState } from '../database-dump.ts';
import { type Findings, findings, type InvariantResult } from '../findings.ts';
import type { History, WorkerCall } from '../history.ts';
import { type Grant, type HistoryIndex, indexHistory, push } from '../history-index.ts';
import { isDenied, isNoVerdict, isStale } from './answers.ts';

type Completion = WorkerCall & { readonly type: 'complete' };
type Save = WorkerCall & { readonly type: 'checkpoint' };
type Renewal = WorkerCall & { readonly type: 'renew' };

/** What may become of an attempt that a worker reported so and that was taken. A cancel that came first wins over all but success. */
const TAKEN: Readonly<Record<Completion['reported'], readonly AttemptState[]>> = {
  succeeded: ['succeeded'],
  failed: ['failed', 'cancelled'],
  cancelled: ['cancelled'],
  returned: ['returned', 'cancelled'],
};

/**
 * 5: an accepted renewal, checkpoint or completion carried the epoch that was current in that transaction (a renewal: also
 * unexpired). A stale call got LEASE_LOST and left nothing.
 */
export function checkFence(history: History): InvariantResult {
  const found = findings(5, 'only the current epoch is accepted, stale calls are refused');
  const { calls } = history;
  if (!calls) {
    found.skip('no calls of workers were recorded');
    return found.result();
  }
  const index = indexHistory(history);
  const landed = new Set<string>();
  const renewals = new Map<string, Renewal[]>();
  for (const call of calls) {
    if (call.outcome !== 'fail' && call.type !== 'renew') landed.add(identityOf(call));
    if (call.type === 'renew' && call.outcome === 'ok') push(renewals, call.sessionId, call);
  }
  const firstSaves = new Map<string, number>();
  for (const call of calls)
    if (call.type === 'checkpoint' && call.outcome !== 'fail') {
      const key = identityOf(call);
      firstSaves.set(key, Math.min(firstSaves.get(key) ?? Number.POSITIVE_INFINITY, call.invokedAtMs));
    }
  const rows = new Map(history.database.checkpoints.map((c) => [`${c.taskId} ${c.saveId}`, c]));

  for (const call of calls) {
    if (call.type === 'renew' || call.outcome === 'info' || isDenied(call)) continue;
    found.exercise();
    const grant = heldBy(call, index);
    if (call.outcome === 'ok' && !grant) {
      found.violate(
        `a ${call.type} of task ${call.taskId}, epoch ${call.epoch}, was accepted from a session that never held it`,
        of(call),
      );
      continue;
    }
    if (call.type === 'complete') {
      if (call.outcome === 'ok') checkTaken(call, grant!, found);
      else if (call.reported === 'succeeded' && grant?.ended?.state === 'succeeded' && !landed.has(identityOf(call)))
        found.violate(
          `the result of task ${call.taskId}, epoch ${call.epoch}, was refused and taken all the same`,
          of(call),
        );
    } else {
      const row = rows.get(`${call.taskId} ${call.saveId}`);
      if (call.outcome === 'ok') {
        const first = firstSaves.get(identityOf(call))!;
        if (grant!.ended && first > grant!.ended.endedAtMs + history.settings.clockToleranceMs)
          found.violate(
            `a checkpoint of task ${call.taskId} was accepted after epoch ${call.epoch} had ended`,
            of(call),
          );
        if (row && row.epoch !== call.epoch)
          found.violate(
            `a checkpoint of epoch ${call.epoch} of task ${call.taskId} is kept as of epoch ${row.epoch}`,
            of(call),
          );
      } else if (row && !landed.has(identityOf(call)))
        found.violate(
          `a checkpoint of task ${call.taskId}, epoch ${call.epoch}, was refused and kept all the same`,
          of(call),
        );
    }
    if (call.outcome === 'fail' && !isStale(call) && !isNoVerdict(call) && wasOver(call, grant, history))
      found.violate(
        `a stale ${call.type} of task ${call.taskId}, epoch ${call.epoch}, was refused with ${call.reason}`,
        of(call),
      );
  }
  for (const [sessionId, list] of renewals) checkRenewals(sessionId, list, history, index, found);
  return found.result();
}

const of = (call: Completion | Save) => ({ taskId: call.taskId, epoch: call.epoch });

/** Equal for a call and its repetitions. */
function identityOf(call: Completion | Save): string {
  return call.type === 'complete'
    ? `complete ${call.taskId} ${call.epoch} ${call.sessionId}`
    : `save ${call.taskId} ${call.epoch} ${call.sessionId} ${call.saveId}`;
}

function heldBy(call: Completion | Save, index: HistoryIndex): Grant | undefined {
  const grant = index.grant(call.taskId, call.epoch);
  return grant?.sessionId === call.sessionId ? grant : undefined;
}

function wasOver(call: Completion | Save, grant: Grant | undefined, { settings }: History): boolean {
  return !grant || (grant.ended !== null && grant.ended.endedAtMs + settings.clockToleranceMs < call.invokedAtMs);
}

function checkTaken(call: Completion, { ended }: Grant, found: Findings): void {
  const tooLarge = ended?.state === 'failed' && ended.failure?.message.startsWith('RESULT_TOO_LARGE');
  if (ended && (TAKEN[call.reported].includes(ended.state) || tooLarge)) return;
  found.violate(
    `epoch ${call.epoch} of task ${call.taskId} was accepted as ${call.reported}; ${ended ? `it is kept as ${ended.state}` : 'its lease goes on'}`,
    of(call),
  );
}

/** An accepted renewal is written, and came before the time that the one before it gave was over. */
function checkRenewals(
  sessionId: string,
  list: readonly Renewal[],
  history: History,
  index: HistoryIndex,
  found: Findings,
): void {
  const { leaseTtlMs, clockToleranceMs, raceMs } = history.settings;
  const session = index.sessions.get(sessionId);
  const inOrder = list.filter((r) => r.answeredAtMs !== null).sort((a, b) => a.invokedAtMs - b.invokedAtMs);
  let alive: number | null = null;
  for (const renewal of inOrder) {
    found.exercise();
    if (session && session.renewedAtMs + clockToleranceMs < renewal.invokedAtMs)
      found.violate(`a renewal of session ${sessionId} was accepted and is not kept`);
    if (
      alive !== null &&
      renewal.invokedAtMs > alive + leaseTtlMs + clockToleranceMs + raceMs &&
      !index.duringOutage(alive, renewal.answeredAtMs!)
    )
      found.violate(
        `session ${sessionId} was renewed ${Math.round(renewal.invokedAtMs - alive)} ms after the renewal before`,
      );
    alive = Math.max(alive ?? 0, renewal.answeredAtMs!);
  }
}
