import type { TaskState } from '@baton/domain';
import type { Sql } from '../connection.ts';

/** A task as its rows say it. */
export interface ObservedTask {
  id: string;
  state: TaskState;
  epoch: number;
  attempt: number;
  /** 0 once it has ended: an outcome does not keep it. */
  crashes: number;
  sessionId: string | null;
  cancelReason: string | null;
  /** Place in the lane; null while it waits and once it has ended. */
  position: string | null;
  /** Ended leases as "epoch:attempt:state", in the order of epochs. */
  history: string[];
}

/** A task whose row is in none of ready, waiting, leases and outcomes, or in several. */
export class TaskMisplaced extends Error {
  override readonly name = 'TaskMisplaced';
}

/**
 * Reads every task with the one table its row is in.
 * @throws TaskMisplaced
 */
export async function observeTasks(sql: Sql): Promise<Map<string, ObservedTask>> {
  const rows = await sql.unsafe(`
    select t.id,
      array_to_string(array[case when y.task_id is not null then 'ready' end, case when w.task_id is not null then 'waiting' end,
                            case when l.task_id is not null then 'leases' end, case when o.task_id is not null then 'outcomes' end], '+') as places,
      coalesce(o.state, case when l.task_id is not null then 'leased' when y.task_id is not null then 'ready' else w.reason end) as state,
      coalesce(o.epoch, l.epoch, y.epoch, w.epoch) as epoch, coalesce(o.attempt, l.attempt, y.attempt, w.attempt)::integer as attempt,
      coalesce(l.crashes, y.crashes, w.crashes, 0)::integer as crashes, l.session_id, coalesce(o.cancel_reason, l.cancel_reason) as cancel_reason,
      coalesce(y.position, l.position) as position,
      (select coalesce(jsonb_agg(a.epoch || ':' || a.attempt || ':' || a.state order by a.epoch), '[]') from baton.attempts a where a.task_id = t.id) as history
    from baton.tasks t
    left join baton.ready y on y.task_id = t.id left join baton.waiting w on w.task_id = t.id
    left join baton.leases l on l.task_id = t.id left join baton.outcomes o on o.task_id = t.id`);
  return new Map(
    rows.map((r) => {
      const places = r.places as string;
      if (!/^[a-z]+$/.test(places)) throw new TaskMisplaced(`task ${r.id} is in ${places || 'no table'}`);
      const task: ObservedTask = {
        id: r.id as string,
        state: r.state as TaskState,
        epoch: r.epoch as number,
        attempt: r.attempt as number,
        crashes: r.crashes as number,
        sessionId: r.session_id as string | null,
        cancelReason: r.cancel_reason as string | null,
        position: r.position as string | null,
        history: r.history as string[],
      };
      return [task.id, task];
    }),
  );
}
