import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { TASK_WITHOUT_PAYLOADS, type TaskRow, toTask } from './read-tasks.ts';

/** A lease of the task that has ended. */
export interface PastLease {
  attempt: number;
  epoch: number;
  state: 'succeeded' | 'failed' | 'cancelled' | 'lost' | 'returned';
  worker: string;
  grantedAt: Date;
  startedAt: Date | null;
  endedAt: Date;
  failure: Failure | null;
  retryDelayMs: number | null;
}

/** All that is kept of one task's life, as it was in one moment. */
export interface TaskRecord {
  task: TaskRow;
  /** It was submitted for a later time. */
  dueAt: Date | null;
  /** By epoch. */
  past: PastLease[];
  /** The lease that is held now. */
  held: { attempt: number; epoch: number; worker: string; grantedAt: Date; startedAt: Date | null } | null;
  /** Since when it waits, where that is a backoff or a time: when it is due. */
  waitsUntil: Date | null;
  end: {
    epoch: number;
    state: 'succeeded' | 'failed' | 'cancelled';
    at: Date;
    failure: Failure | null;
    cancelReason: string | null;
    worker: string | null;
  } | null;
  checkpoints: {
    number: string;
    epoch: number;
    attempt: number;
    worker: string;
    at: Date;
    sizeBytes: number;
    score: number | null;
  }[];
  cancels: { epoch: number; at: Date; reason: string }[];
  progress: { epoch: number; at: Date; fraction: number | null; message: string | null } | null;
  /** Tasks that send this one again. */
  resent: { id: string; at: Date }[];
}

/** Checkpoints that are shown, the newest; a task may keep any number. */
const MAX_CHECKPOINTS = 1_000;

const ms = (column: string) => `(extract(epoch from ${column}) * 1000)::double precision`;

/** One statement, so that its parts are of one moment. */
export const READ_RECORD = `/* baton read record */
select ${TASK_WITHOUT_PAYLOADS.columns}, t.due_at as submitted_due_at, w.due_at as waits_until,
  (select jsonb_agg(jsonb_build_object('attempt', p.attempt, 'epoch', p.epoch, 'state', p.state, 'worker', pw.name, 'failure', p.failure,
     'retryDelayMs', p.retry_delay_ms, 'grantedAt', ${ms('p.granted_at')}, 'startedAt', ${ms('p.started_at')}, 'endedAt', ${ms('p.ended_at')}) order by p.epoch)
   from baton.attempts p join baton.workers pw on pw.id = p.worker_id where p.task_id = t.id) as past,
  case when l.task_id is not null then jsonb_build_object('attempt', l.attempt, 'epoch', l.epoch, 'worker', k.name,
     'grantedAt', ${ms('l.granted_at')}, 'startedAt', ${ms('l.started_at')}) end as held,
  case when o.task_id is not null then jsonb_build_object('epoch', o.epoch, 'state', o.state, 'at', ${ms('o.ended_at')}, 'failure', o.failure,
     'cancelReason', o.cancel_reason, 'worker', (select ow.name from baton.workers ow where ow.id = o.worker_id)) end as outcome,
  (select jsonb_agg(jsonb_build_object('number', c.number::text, 'epoch', c.epoch, 'attempt', c.attempt, 'worker', cw.name,
     'at', ${ms('c.created_at')}, 'sizeBytes', c.size_bytes, 'score', c.score) order by c.number)
   from (select * from baton.checkpoints c where c.task_id = t.id order by c.number desc limit ${MAX_CHECKPOINTS}) c
   join baton.workers cw on cw.id = c.worker_id) as kept_checkpoints,
  (select jsonb_agg(jsonb_build_object('epoch', x.epoch, 'at', ${ms('x.at')}, 'reason', x.reason) order by x.epoch)
   from baton.cancel_requests x where x.task_id = t.id) as cancels,
  (select jsonb_build_object('epoch', q.epoch, 'at', ${ms('q.sign_at')}, 'fraction', q.fraction, 'message', q.message)
   from baton.progress q where q.task_id = t.id and (q.fraction is not null or q.message is not null)) as last_progress,
  (select jsonb_agg(jsonb_build_object('id', n.id::text, 'at', ${ms('n.created_at')}) order by n.id)
   from (select id, created_at from baton.tasks n where n.retry_of = t.id order by id limit 100) n) as resent
from baton.tasks t ${TASK_WITHOUT_PAYLOADS.joins} where t.id = $1 and t.namespace_id = $2`;

/** Everything about one task; null if there is none in this namespace. */
export async function readRecord(sql: Sql, namespaceId: number, id: string): Promise<TaskRecord | null> {
  const [row] = await sql.unsafe(READ_RECORD, [id, namespaceId], { prepare: true });
  if (!row) return null;
  const held = row.held as Json | null;
  const outcome = row.outcome as Json | null;
  const progress = row.last_progress as Json | null;
  return {
    task: toTask(row),
    dueAt: row.submitted_due_at as Date | null,
    waitsUntil: row.waits_until as Date | null,
    past: list(row.past).map(
      (p) =>
        ({
          ...p,
          grantedAt: date(p.grantedAt),
          startedAt: dateOrNull(p.startedAt),
          endedAt: date(p.endedAt),
        }) as PastLease,
    ),
    held:
      held &&
      ({ ...held, grantedAt: date(held.grantedAt), startedAt: dateOrNull(held.startedAt) } as TaskRecord['held']),
    end: outcome && ({ ...outcome, at: date(outcome.at) } as TaskRecord['end']),
    checkpoints: list(row.kept_checkpoints).map((c) => ({ ...c, at: date(c.at) }) as TaskRecord['checkpoints'][number]),
    cancels: list(row.cancels).map((c) => ({ ...c, at: date(c.at) }) as TaskRecord['cancels'][number]),
    progress: progress && ({ ...progress, at: date(progress.at) } as TaskRecord['progress']),
    resent: list(row.resent).map((r) => ({ ...r, at: date(r.at) }) as TaskRecord['resent'][number]),
  };
}

type Json = Record<string, unknown>;
const list = (value: unknown): Json[] => (value as Json[] | null) ?? [];
const date = (value: unknown): Date => new Date(value as number);
const dateOrNull = (value: unknown): Date | null => (value === null ? null : date(value));
