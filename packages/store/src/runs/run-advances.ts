import type { Failure } from '@baton/domain';
import type { Sql } from '../database/connection.ts';
import { numbers } from '../database/literals.ts';
import type { Encoding } from '../tasks/new-task.ts';
import type { NodeOutput } from './run-outputs.ts';
import type { RunState } from './runs.ts';

/** Outputs up to this many bytes come with the end that they belong to. */
const NEAR_OUTPUT_BYTES = 1024;

/** How a node's task, an item's task, or a run that a run started, ended. */
export interface StepEnd {
  taskId: string | null;
  childRunId: string | null;
  nodeId: string;
  item: number | null;
  state: 'succeeded' | 'failed' | 'cancelled';
  attempts: number;
  workerId: number | null;
  outputHash: string | null;
  failure: Failure | null;
  endedAtMs: number;
  /** Null where it is not small, or nothing: to be read when it is wanted. */
  output: NodeOutput | null;
}

/** A run that has something to do. */
export interface DueRun {
  runId: string;
  form: 'graph' | 'function';
  state: RunState;
  /** The newest, as it was when the ends were read. */
  revision: number;
  advanceIds: string[];
  ends: StepEnd[];
}

/**
 * What is to be done next, the longest waiting first, with the ends that are the reason. Look-ups only: neither the size of a run nor
 * that of the history counts. A row of `advances` that is visible is of a change that is visible.
 */
export const DUE_ADVANCES = `/* baton due advances */
with due as materialized (
  select id, run_id, task_id, child_run_id from baton.advances where not run_id = any($2::bigint[]) order by id limit $1
)
select d.id, d.run_id, r.form, r.state as run_state, r.revision,
       coalesce(o.task_id, null) as task_id, c.id as child_run_id, coalesce(t.node_id, c.parent_node_id) as node_id,
       coalesce(t.item, c.parent_item) as item, coalesce(o.state, c.state) as state, o.attempt, o.worker_id,
       coalesce(o.hash, c.hash) as hash, coalesce(o.failure, c.failure) as failure, coalesce(o.ended_ms, c.ended_ms) as ended_ms,
       coalesce(o.near, c.near) as near, coalesce(o.output, c.output) as output, coalesce(o.encoding, c.encoding) as encoding
from due d
left join lateral (select r.form, r.state, r.revision from baton.runs r where r.id = d.run_id limit 1) r on true
left join lateral (
  select o.task_id, o.state, o.attempt, o.worker_id, o.failure, coalesce(encode(o.output_blob, 'hex'), encode(sha256(o.output), 'hex')) as hash,
         extract(epoch from o.ended_at)::double precision * 1000 as ended_ms, octet_length(o.output) <= ${NEAR_OUTPUT_BYTES} as near,
         case when octet_length(o.output) <= ${NEAR_OUTPUT_BYTES} then o.output end as output, o.output_encoding as encoding
  from baton.outcomes o where o.task_id = d.task_id limit 1
) o on r.form = 'graph'
left join lateral (select t.node_id, t.item from baton.tasks t where t.id = d.task_id limit 1) t on r.form = 'graph'
left join lateral (
  select c.id, c.parent_node_id, c.parent_item, c.state,
         coalesce(c.failure, case when c.state = 'failed' then jsonb_build_object('type', 'UNKNOWN', 'message', coalesce(c.failure_message, 'the run failed')) end) as failure,
         coalesce(encode(c.output_blob, 'hex'), encode(sha256(c.output), 'hex')) as hash,
         extract(epoch from c.ended_at)::double precision * 1000 as ended_ms, octet_length(c.output) <= ${NEAR_OUTPUT_BYTES} as near,
         case when octet_length(c.output) <= ${NEAR_OUTPUT_BYTES} then c.output end as output, c.output_encoding as encoding
  from baton.runs c where c.id = d.child_run_id and c.state in ('succeeded', 'failed', 'cancelled') limit 1
) c on r.form = 'graph'
order by d.id`;

/** @param except runs that are left to others for the moment */
export async function dueAdvances(sql: Sql, limit: number, except: readonly string[] = []): Promise<DueRun[]> {
  const rows = await sql.unsafe(DUE_ADVANCES, [limit, numbers(except)], { prepare: true });
  const runs = new Map<string, DueRun>();
  for (const r of rows) {
    let run = runs.get(r.run_id as string);
    if (!run) {
      run = {
        runId: r.run_id as string,
        form: (r.form ?? 'graph') as DueRun['form'],
        // A run that is not there any more has ended.
        state: (r.run_state ?? 'cancelled') as RunState,
        revision: (r.revision ?? -1) as number,
        advanceIds: [],
        ends: [],
      };
      runs.set(run.runId, run);
    }
    run.advanceIds.push(r.id as string);
    if (r.state === null || r.node_id === null) continue;
    run.ends.push({
      taskId: r.task_id as string | null,
      childRunId: r.child_run_id as string | null,
      nodeId: r.node_id as string,
      item: r.item as number | null,
      state: r.state as StepEnd['state'],
      attempts: (r.attempt ?? 0) as number,
      workerId: r.worker_id as number | null,
      outputHash: r.hash as string | null,
      failure: r.failure as Failure | null,
      endedAtMs: r.ended_ms as number,
      output:
        r.near === true
          ? { output: r.output as Uint8Array, encoding: (r.encoding ?? 1) as Encoding, blob: null }
          : null,
    });
  }
  return [...runs.values()];
}

/** Advances of runs that have ended need no answer. */
export async function dropAdvances(sql: Sql, advanceIds: readonly string[]): Promise<void> {
  await sql.unsafe('delete from baton.advances where id = any($1::bigint[])', [numbers(advanceIds)], { prepare: true });
}
