import type postgres from 'postgres';

/** A run whose history is not complete is no measurement. */
export class IncompleteHistoryError extends Error {
  override readonly name = 'IncompleteHistoryError';
}

/** What Postgres holds of tasks that have all ended. Every number is counted from rows. */
export interface History {
  tasks: number;
  outcomes: number;
  attempts: number;
  /** Single events in the log: submitted, leased and succeeded, one of each for each task. */
  events: number;
  /** From the first grant to the last outcome, by Postgres's clock. */
  seconds: number;
}

/**
 * Counts the history of `expected` no-op tasks: each submitted once, leased once with epoch 1, succeeded once, and nothing left
 * over. @throws IncompleteHistoryError naming every number that is not as it must be
 */
export async function verifyHistory(sql: postgres.Sql, expected: number): Promise<History> {
  const [row] = await sql<(Record<string, number> & { seconds: number })[]>`
    select
      (select count(*)::integer from baton.tasks) as tasks,
      (select count(*)::integer from baton.outcomes) as outcomes,
      (select count(*)::integer from baton.attempts) as attempts,
      (select count(*)::integer from baton.tasks t
         join baton.outcomes o on o.task_id = t.id and o.state = 'succeeded' and o.epoch = 1 and o.attempt = 1 and o.output is not null
         join baton.attempts a on a.task_id = t.id and a.state = 'succeeded' and a.epoch = 1 and a.attempt = 1
                              and a.granted_at <= a.started_at and a.started_at <= a.ended_at) as whole,
      (select count(*)::integer from baton.ready) as ready,
      (select count(*)::integer from baton.waiting) as waiting,
      (select count(*)::integer from baton.leases) as leases,
      (select extract(epoch from (select max(ended_at) from baton.outcomes) - min(granted_at))::float8 from baton.attempts) as seconds`;
  const events = await countEvents(sql);
  const wrong = [
    ...(['tasks', 'outcomes', 'attempts', 'whole'] as const).filter((name) => row![name] !== expected),
    ...(['ready', 'waiting', 'leases'] as const).filter((name) => row![name] !== 0),
  ].map((name) => `${name}=${row![name]}`);
  for (const [type, count] of Object.entries(events)) if (count !== expected) wrong.push(`events of ${type}=${count}`);
  if (wrong.length > 0) throw new IncompleteHistoryError(`of ${expected} tasks: ${wrong.join(', ')}`);
  return {
    tasks: row!.tasks!,
    outcomes: row!.outcomes!,
    attempts: row!.attempts!,
    events: Object.values(events).reduce((sum, count) => sum + count, 0),
    seconds: row!.seconds,
  };
}

/** Numbered as in proto/baton/v1/event.proto. Counted by distinct task: an event that was written twice does not hide one that is missing. */
async function countEvents(sql: postgres.Sql): Promise<Record<'submitted' | 'leased' | 'succeeded', number>> {
  const [row] = await sql`
    select count(distinct e.task) filter (where e.type = 1)::integer as submitted,
           count(distinct e.task) filter (where e.type = 3)::integer as leased,
           count(distinct e.task) filter (where e.type = 5)::integer as succeeded
    from baton.events, unnest(types, task_ids) e(type, task)`;
  return row as Record<'submitted' | 'leased' | 'succeeded', number>;
}

/** Tasks on disk, with a ready row each. @throws IncompleteHistoryError */
export async function verifySubmitted(sql: postgres.Sql, expected: number): Promise<number> {
  const [row] = await sql`
    select (select count(*)::integer from baton.tasks) as tasks, (select count(*)::integer from baton.ready) as ready`;
  if (row!.tasks !== expected || row!.ready !== expected)
    throw new IncompleteHistoryError(`${expected} submits were answered; tasks=${row!.tasks}, ready=${row!.ready}`);
  return row!.tasks as number;
}
