import { numbers } from '../database/literals.ts';

/** Of a lane `l`: its tasks may be handed over. */
export const LANE_GUARD = 'not l.paused and not exists (select from baton.ready y where y.lane_id = l.id)';

/** Of a session `s`: it may be given leases. */
export const SESSION_GUARD = "s.state = 'active' and not s.held_back and s.expires_at > clock_timestamp()";

/**
 * Leases tasks in the statement that stores them, to sessions that wait for them: one commit between submit and start, and no row in
 * `ready` that would be dead a moment later.
 *
 * The guards are those of the claim: the lane is not paused, the session is active, not held back by its breaker, and its time is not
 * over; lanes are locked before sessions, as there. And nothing is ready in the lane: what waited before goes first. What is not handed over
 * goes to `ready`. A repeated statement stores nothing, so it leases nothing: a lease whose answer was lost comes back as one that
 * the worker never heard of.
 *
 * Beside the plain statement it costs 0.1 ms of Postgres for a lone task; the claim that it saves costs 0.3 ms and a round trip.
 *
 * Tasks find their session, and sessions their worker, by place in sorted arrays: joins of the batch with itself are nested loops here, and
 * took 43 ms for 400 tasks.
 *
 * @param stored the CTE with the tasks that this statement stores: the columns of `ready` but `position` and `epoch`, `id` for
 *   `task_id`, and `namespace_id` and `route_id`
 * @param taskId what the CTE `input`, which has `session_id`, calls the task
 */
export const handOver = (stored: string, taskId: string) => `wanted as materialized (
  select array_agg(${taskId} order by ${taskId}) as task_ids, array_agg(coalesce(session_id, 0) order by ${taskId}) as session_ids from input
), granting as materialized (
  select l.id from baton.lanes l where l.id = any(array(select distinct lane_id from input where session_id is not null)) and ${LANE_GUARD}
  order by l.id for share of l
), takers as materialized (
  select s.id, s.worker_id, s.expires_at from baton.sessions s
  where s.id = any(array(select distinct session_id from input where session_id is not null))
    and ${SESSION_GUARD}
  order by s.id for share of s
), taking as materialized (
  select array_agg(id order by id) as session_ids, array_agg(worker_id order by id) as worker_ids from takers where expires_at > clock_timestamp()
), handed as materialized (
  select t.*, w.session_ids[i.n] as session_id, k.worker_ids[j.n] as worker_id
  from ${stored} t cross join wanted w cross join taking k
  cross join lateral (select width_bucket(t.id, w.task_ids) as n offset 0) i
  cross join lateral (select width_bucket(w.session_ids[i.n], k.session_ids) as n offset 0) j
  where t.lane_id = any(array(select id from granting)) and k.session_ids[j.n] = w.session_ids[i.n]
), leased as (
  insert into baton.leases (task_id, session_id, granted_at, position, run_id, start_to_close_ms, lane_id, epoch, priority, attempt,
                            max_attempts, crashes, infra, ooms, input_encoding,
                            lane_namespace_id, lane_route_id, session_worker_id)
  select id, session_id, clock_timestamp(), id, run_id, start_to_close_ms, lane_id, 1, priority, 1, max_attempts, 0, 0, 0, input_encoding,
         namespace_id, route_id, worker_id
  from handed
)`;

/** What the events of a statement say of the tasks that were handed over, after what they say of all. */
export const HANDED_EVENTS = `select namespace_id, 3::smallint as type, id as task_id, coalesce(run_id, 0) as run_id, 1::smallint as attempt, worker_id
        from handed`;

/** Sessions of a batch's tasks, in its order; null: none waits. */
export type Takers = readonly (string | null)[];

export const takersOf = (takers: Takers): string => numbers(takers);

/** Sessions by the task that they were given. */
export type Handed = ReadonlyMap<string, string>;

export const NOBODY: Handed = new Map();
