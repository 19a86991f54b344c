import { findings, type InvariantResult } from '../findings.ts';
import type { History } from '../history.ts';
import { push } from '../history-index.ts';

interface Keyed {
  readonly id: string;
  readonly createdAtMs: number;
}

/** 13: (namespace, kind, idempotency key) → one task, (namespace, workflow, key) → one run; (schedule, slot) → one run. */
export function checkKeys(history: History): InvariantResult {
  const found = findings(13, 'a key stands for one task or run');
  found.skip('schedules: there are none yet');
  const { database, operations, settings } = history;
  const held = new Map<string, Keyed[]>();
  for (const t of database.tasks)
    if (t.key !== null && t.retryOf === null) push(held, JSON.stringify([t.namespace, `task:${t.kind}`, t.key]), t);
  for (const r of database.runs)
    if (r.key !== null) push(held, JSON.stringify([r.namespace, `run:${r.workflow}`, r.key]), r);
  for (const [key, list] of held) {
    found.exercise();
    list.sort((a, b) => a.createdAtMs - b.createdAtMs);
    list.slice(1).forEach((each, i) => {
      if (each.createdAtMs - list[i]!.createdAtMs < settings.idempotencyTtlMs)
        found.violate(`the key ${key} stands for ${list[i]!.id} and ${each.id}`, { taskId: each.id });
    });
  }

  const answers = new Map<string, { id: string; body: string | undefined; atMs: number }[]>();
  for (const op of operations ?? []) {
    if ((op.type !== 'submit' && op.type !== 'start_run') || op.outcome !== 'ok' || op.key === null) continue;
    const scope = op.type === 'submit' ? `task:${op.kind}` : `run:${op.workflow}`;
    const id = (op.type === 'submit' ? op.taskId : op.runId) ?? '';
    push(answers, JSON.stringify([op.namespace, scope, op.key]), { id, body: op.body, atMs: op.invokedAtMs });
  }
  for (const [key, list] of answers) {
    list.sort((a, b) => a.atMs - b.atMs);
    const [first, ...rest] = list;
    for (const answer of rest) {
      if (answer.atMs - first!.atMs > settings.idempotencyTtlMs) break;
      found.exercise();
      if (answer.id !== first!.id)
        found.violate(`the key ${key} was answered with ${first!.id} and ${answer.id}`, { taskId: answer.id });
      else if (answer.body !== first!.body)
        found.violate(`the key ${key} was accepted with another body`, { taskId: answer.id });
    }
  }
  return found.result();
}
