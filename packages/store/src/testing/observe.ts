import type { TaskState } from '@baton/domain';
import type { Sql } from '../database/connection.ts';

/** A task as its rows say it. */
export interface ObservedTask {
  id: string;
  state: TaskState;
  epoch: number;
  attempt: number;
  /** What earlier attempts were charged to, as "crashes/infra/ooms"; once it has ended, and is not kept, "0/0/0". */
  charged: string;
  laneId: number;
  sessionId: string | null;
  cancelReason: string | null;
  /** Place in the lane; null while it waits and once it has ended. */
  position: string | null;
  /** While it waits for a time: whether that has come. While it is leased: whether it has begun. Otherwise null. */
  due: boolean | null;
  /** Of the time to be started: whether it is over; null: it has none. */
  tooLate: boolean | null;
  /** Ended leases as "epoch:attempt:state:delay:failure", in the order of epochs. */
  history: string[];
  /** How it ended, as "state:epoch:attempt:worker:failure"; null: it has not. */
  end: string | null;
}

/** A session as its row says it. */
export interface ObservedSession {
  id: string;
  workerId: number;
  state: string;
  shutdown: boolean;
  heldBack: boolean;
  reason: string | null;
  beat: string;
  recall: number;
  /** Its time is over. */
  over: boolean;
  /** Of its worker's lives, this is the newest. */
  newest: boolean;
  leases: number;
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
  const rows = await sql.unsafe(
    `
    select t.id,
      array_to_string(array[case when y.task_id is not null then 'ready' end, case when w.task_id is not null then 'waiting' end,
                            case when l.task_id is not null then 'leases' end, case when o.task_id is not null then 'outcomes' end], '+') as places,
      coalesce(o.state, case when l.task_id is not null then 'leased' when y.task_id is not null then 'ready' else w.reason end) as state,
      coalesce(o.epoch, l.epoch, y.epoch, w.epoch) as epoch, coalesce(o.attempt, l.attempt, y.attempt, w.attempt)::integer as attempt,
      concat_ws('/', coalesce(l.crashes, y.crashes, w.crashes, 0), coalesce(l.infra, y.infra, w.infra, 0),
                coalesce(l.ooms, y.ooms, w.ooms, 0)) as charged,
      coalesce(l.lane_id, y.lane_id, w.lane_id, 0) as lane_id, l.session_id, coalesce(o.cancel_reason, l.cancel_reason) as cancel_reason,
      coalesce(y.position, l.position) as position,
      case when w.task_id is not null then w.due_at <= clock_timestamp() when l.task_id is not null then l.started_at is not null end as due,
      d.expires_at <= clock_timestamp() as too_late,
      coalesce(h.history, '[]') as history,
      case when o.task_id is not null then concat_ws(':', o.state, o.epoch, o.attempt, o.worker_id, o.failure ->> 'type') end as ended
    from baton.tasks t
    left join baton.ready y on y.task_id = t.id left join baton.waiting w on w.task_id = t.id
    left join baton.leases l on l.task_id = t.id left join baton.outcomes o on o.task_id = t.id
    left join baton.start_deadlines d on d.task_id = t.id
    left join (
      select a.task_id, jsonb_agg(concat_ws(':', a.epoch, a.attempt, a.state, a.retry_delay_ms, a.failure ->> 'type') order by a.epoch) as history
      from baton.attempts a group by a.task_id
    ) h on h.task_id = t.id`,
    [],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => {
      const places = r.places as string;
      if (!/^[a-z]+$/.test(places)) throw new TaskMisplaced(`task ${r.id} is in ${places || 'no table'}`);
      const task: ObservedTask = {
        id: r.id as string,
        state: r.state as TaskState,
        epoch: r.epoch as number,
        attempt: r.attempt as number,
        charged: r.charged as string,
        laneId: r.lane_id as number,
        sessionId: r.session_id as string | null,
        cancelReason: r.cancel_reason as string | null,
        position: r.position as string | null,
        due: r.due as boolean | null,
        tooLate: r.too_late as boolean | null,
        history: r.history as string[],
        end: r.ended as string | null,
      };
      return [task.id, task];
    }),
  );
}

export async function observeSessions(sql: Sql): Promise<Map<string, ObservedSession>> {
  const rows = await sql.unsafe(
    `
    select s.id, s.worker_id, s.state, s.shutdown, s.held_back, s.reason, s.beat, s.recall, s.expires_at <= clock_timestamp() as over,
           s.id = w.session_id as newest, (select count(*)::integer from baton.leases l where l.session_id = s.id) as leases
    from baton.sessions s join baton.workers w on w.id = s.worker_id`,
    [],
    { prepare: true },
  );
  return new Map(
    rows.map((r) => [
      r.id as string,
      {
        id: r.id as string,
        workerId: r.worker_id as number,
        state: r.state as string,
        shutdown: r.shutdown as boolean,
        heldBack: r.held_back as boolean,
        reason: r.reason as string | null,
        beat: r.beat as string,
        recall: r.recall as number,
        over: r.over as boolean,
        newest: r.newest as boolean,
        leases: r.leases as number,
      },
    ]),
  );
}

/** Events as "type:task:attempt:worker", in the order of the log, after those that were read before. */
export async function observeEvents(sql: Sql, afterId: string): Promise<{ events: string[]; lastId: string }> {
  const rows = await sql.unsafe(
    `select e.id, e.types[n] as type, e.task_ids[n] as task_id, e.attempts[n] as attempt, e.worker_ids[n] as worker_id
     from baton.events e cross join generate_subscripts(e.types, 1) n where e.id > $1 order by e.id, n`,
    [afterId],
    { prepare: true },
  );
  return {
    events: rows.map((r) => `${r.type}:${r.task_id}:${r.attempt}:${r.worker_id}`),
    lastId: (rows.at(-1)?.id as string | undefined) ?? afterId,
  };
}
