-- works with: 1
--
-- The durable core: budgets, deadlines, breakers, pauses, checkpoints, blobs, streamed output, retention.
--
-- Only adds, so that masters of version 1 go on working beside: nullable columns, defaults, new tables. What few tasks use has a
-- narrow table of its own, so that the others pay nothing for it.

-- what tasks carry --------------------------------------------------------------------------------------------------------

alter table baton.tasks add column schedule_to_start_ms bigint, add column progress_timeout_ms bigint, add column input_blob bytea;
comment on column baton.tasks.schedule_to_start_ms is 'Longest wait for a start, ms, anew for each attempt; null: none.';
comment on column baton.tasks.progress_timeout_ms is 'Longest time without a sign of the running task, ms; null: none.';
comment on column baton.tasks.input_blob is 'SHA-256 of the blob that holds the input; then input is null.';
create index tasks_retry_of on baton.tasks (retry_of) where retry_of is not null;

alter table baton.outcomes add column output_blob bytea;
comment on column baton.outcomes.output_blob is 'SHA-256 of the blob that holds the output; then output is null.';

alter table baton.ready add column infra smallint not null default 0, add column ooms smallint not null default 0;
comment on column baton.ready.infra is 'Attempts that failed by the network or a device, as a live worker said.';
comment on column baton.ready.ooms is 'Attempts that ran out of memory.';
alter table baton.waiting add column infra smallint not null default 0, add column ooms smallint not null default 0;
comment on column baton.waiting.infra is 'As in ready.';
comment on column baton.waiting.ooms is 'As in ready.';
alter table baton.leases add column infra smallint not null default 0, add column ooms smallint not null default 0;
comment on column baton.leases.infra is 'As in ready.';
comment on column baton.leases.ooms is 'As in ready.';
create index leases_cancelled on baton.leases (session_id) where cancel_reason is not null;
-- Only work that lasts is reported as started: looking for what is overdue, nobody walks over the short tasks.
create index leases_started on baton.leases (started_at) where started_at is not null;

-- Failures are looked at newest first, and breakers count them by worker.
create index attempts_failures on baton.attempts (ended_at desc, task_id) where state in ('failed', 'lost');
create index attempts_failures_worker on baton.attempts (worker_id, ended_at desc) where state in ('failed', 'lost');
-- What machines did wrong is rare among what fails: a storm of application errors does not slow the breakers down.
create index attempts_machine_made on baton.attempts (worker_id, ended_at desc)
  where state in ('failed', 'lost') and failure ->> 'type' in ('WORKER_CRASH', 'NETWORK_ERROR', 'GPU_ERROR');
create index attempts_machine_made_at on baton.attempts (ended_at desc, worker_id)
  where state in ('failed', 'lost') and failure ->> 'type' in ('WORKER_CRASH', 'NETWORK_ERROR', 'GPU_ERROR');

-- sessions ------------------------------------------------------------------------------------------------------------------

alter table baton.sessions add column held_back boolean not null default false, add column recall integer not null default 0,
  add column beat bigint not null default 0;
comment on column baton.sessions.held_back is 'The worker''s breaker is open or half-open: no grant but a probe. Set with the breaker, in one statement.';
comment on column baton.sessions.beat is 'Number of its newest heartbeat: what an older one says it holds is out of date.';
comment on column baton.sessions.recall is 'Leases that it is asked to hand back unstarted, with its next heartbeat: others wait for work.';

alter table baton.sweeps add column resumed_at timestamptz not null default '-infinity';
comment on column baton.sweeps.resumed_at is 'When this duty was done again after an outage; nothing is held against workers for a while after.';

-- queues --------------------------------------------------------------------------------------------------------------------

-- Of every lane that is made, by whatever version: the queue's row is locked, so a pause of the same moment comes before or after.
create function baton.inherit_pause() returns trigger language plpgsql as $$
begin
  select q.paused into new.paused
  from baton.routes r join baton.queues q on q.namespace_id = r.namespace_id and q.name = r.queue
  where r.id = new.route_id for share of q;
  new.paused := coalesce(new.paused, false);
  return new;
end $$;
comment on function baton.inherit_pause() is 'A new lane is paused if its queue is.';
create trigger lanes_inherit_pause before insert on baton.lanes for each row execute function baton.inherit_pause();

create function baton.set_queue_paused(in_namespace integer, queue text, pause boolean) returns boolean language plpgsql as $$
declare
  was boolean;
begin
  if pause then
    insert into baton.queues (namespace_id, name) values (in_namespace, queue) on conflict do nothing;
  end if;
  select q.paused into was from baton.queues q where q.namespace_id = in_namespace and q.name = queue for update;
  if was is null then
    return null;
  end if;
  update baton.queues q set paused = pause where q.namespace_id = in_namespace and q.name = queue and q.paused <> pause;
  -- A statement of its own sees every lane that was made until the queue's row was locked. Claims hold the lanes that they grant
  -- from until they commit: they are waited for here, and none comes after. Both lock lanes in the order of their ids.
  with mine as materialized (
    select l.id from baton.lanes l join baton.routes r on r.id = l.route_id
    where r.namespace_id = in_namespace and r.queue = set_queue_paused.queue and l.paused <> pause order by l.id for update of l
  )
  update baton.lanes l set paused = pause from mine where l.id = mine.id;
  if was <> pause then
    insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
    values (array[in_namespace], array[case when pause then 20 else 21 end]::smallint[], array[0::bigint], array[0::bigint], array[0::smallint], array[0]);
  end if;
  return was;
end $$;
comment on function baton.set_queue_paused(integer, text, boolean) is 'Pauses a queue, known or not, or lets it go on. Says whether it was paused; null: there is no such queue.';

-- deadlines -----------------------------------------------------------------------------------------------------------------

create table baton.start_deadlines (
  task_id bigint primary key,
  timeout_ms bigint not null,
  expires_at timestamptz not null
);
comment on table baton.start_deadlines is 'Tasks with a schedule-to-start time. A row outlives its use until its time is over; then the sweep ends the task or forgets the row.';
comment on column baton.start_deadlines.task_id is 'Task.';
comment on column baton.start_deadlines.timeout_ms is 'Longest wait, ms.';
comment on column baton.start_deadlines.expires_at is 'Not started by then: failed. Set anew when the task goes back to wait.';
create index start_deadlines_expiry on baton.start_deadlines (expires_at);

create table baton.progress (
  task_id bigint primary key,
  session_id bigint not null,
  sign_at timestamptz not null,
  timeout_ms bigint,
  epoch integer not null,
  fraction real,
  message text
) with (fillfactor = 70);
comment on table baton.progress is 'Last signs of running tasks that have a progress timeout or say how far they are. Of the epoch named; a row of an older one means nothing.';
comment on column baton.progress.task_id is 'Task.';
comment on column baton.progress.session_id is 'The session that said so.';
comment on column baton.progress.sign_at is 'When the task gave its last sign: progress, a line, output, a checkpoint, or its start.';
comment on column baton.progress.timeout_ms is 'Longest silence, ms; null: no limit.';
comment on column baton.progress.epoch is 'Epoch of the attempt.';
comment on column baton.progress.fraction is 'How far it is, 0 to 1, as it said.';
comment on column baton.progress.message is 'What it said.';

-- breakers ------------------------------------------------------------------------------------------------------------------

create table baton.breakers (
  worker_id integer not null references baton.workers,
  device text not null,
  state text not null check (state in ('closed', 'open', 'half_open')),
  changed_at timestamptz not null,
  counted_from timestamptz not null,
  probe_task_id bigint,
  probe_epoch integer,
  successes smallint not null default 0,
  reason text not null,
  primary key (worker_id, device)
);
comment on table baton.breakers is 'Circuit breakers of workers and devices that have opened at least once. Moved by any master from what is in attempts.';
comment on column baton.breakers.worker_id is 'Worker.';
comment on column baton.breakers.device is 'UUID of the device; empty: the worker itself.';
comment on column baton.breakers.state is 'closed, open (nothing is granted) or half_open (one probe at a time).';
comment on column baton.breakers.changed_at is 'When it came to this state.';
comment on column baton.breakers.counted_from is 'Failures before this time no longer count. Moves with each step, so it also tells two looks at the same state apart.';
comment on column baton.breakers.probe_task_id is 'The task that is the probe.';
comment on column baton.breakers.probe_epoch is 'Epoch of its lease.';
comment on column baton.breakers.successes is 'Successful probes since it became half-open.';
comment on column baton.breakers.reason is 'Why it opened last, or who closed it.';

create index breakers_not_closed on baton.breakers (changed_at) where state <> 'closed';

create table baton.breaker_changes (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  worker_id integer not null,
  device text not null,
  from_state text not null,
  to_state text not null,
  reason text not null
);
comment on table baton.breaker_changes is 'Every step of every breaker.';
comment on column baton.breaker_changes.id is 'Order.';
comment on column baton.breaker_changes.at is 'When.';
comment on column baton.breaker_changes.worker_id is 'Worker.';
comment on column baton.breaker_changes.device is 'As in breakers.';
comment on column baton.breaker_changes.from_state is 'State before.';
comment on column baton.breaker_changes.to_state is 'State after.';
comment on column baton.breaker_changes.reason is 'Why.';

-- One step of a breaker, if it stands as the caller saw it (state, counted_from, probe); otherwise nothing. A function, so that what is
-- read after a lock is what is there then: no session is opened, and no grant is made, that the step does not see or that does not see it.
create function baton.step_breaker(of_worker integer, of_device text, from_state text, seen_counted_from timestamptz, seen_probe bigint,
                                   seen_epoch integer, to_state text, new_successes integer, why text) returns boolean language plpgsql as $$
declare
  stands baton.breakers;
  namespace integer;
  moment timestamptz;
begin
  -- A registration of this worker changes this row: it is over, or comes after and looks at the breaker by itself.
  select w.namespace_id into namespace from baton.workers w where w.id = of_worker for no key update;
  if not found then return false; end if;
  select * into stands from baton.breakers b where b.worker_id = of_worker and b.device = of_device for update;
  if stands.counted_from is distinct from seen_counted_from or coalesce(stands.state, 'closed') <> from_state
     or stands.probe_task_id is distinct from seen_probe or stands.probe_epoch is distinct from seen_epoch then
    return false;
  end if;
  if of_device = '' then
    -- A claim holds its session's row until it commits: it is over, or sees what is written here.
    perform from baton.sessions s where s.worker_id = of_worker and s.state <> 'closed' order by s.id for no key update;
  end if;
  moment := clock_timestamp();
  insert into baton.breakers as b (worker_id, device, state, changed_at, counted_from, successes, reason)
  values (of_worker, of_device, to_state, moment, moment, new_successes, why)
  on conflict (worker_id, device) do update set
    state = to_state, successes = new_successes, probe_task_id = null, probe_epoch = null,
    changed_at = case when from_state = to_state then b.changed_at else moment end,
    -- A probe that ended and left the breaker half-open counts on.
    counted_from = case when from_state = to_state and to_state = 'half_open' then b.counted_from else moment end,
    reason = case when to_state = 'half_open' then b.reason else why end;
  if of_device = '' then
    update baton.sessions s set held_back = (to_state <> 'closed')
    where s.worker_id = of_worker and s.state <> 'closed' and s.held_back <> (to_state <> 'closed');
  end if;
  if from_state <> to_state then
    insert into baton.breaker_changes (at, worker_id, device, from_state, to_state, reason)
    values (moment, of_worker, of_device, from_state, to_state, why);
    insert into baton.events (namespace_ids, types, task_ids, run_ids, attempts, worker_ids)
    values (array[namespace], array[case to_state when 'open' then 17 when 'half_open' then 18 else 19 end]::smallint[],
            array[0::bigint], array[0::bigint], array[0::smallint], array[of_worker]);
  end if;
  return true;
end $$;
comment on function baton.step_breaker(integer, text, text, timestamptz, bigint, integer, text, integer, text) is
  'One guarded step of a breaker with its record, its event and, for a worker, the mark on its sessions. False: it does not stand as the caller saw it.';

-- blobs ---------------------------------------------------------------------------------------------------------------------

create table baton.blobs (
  namespace_id integer not null,
  sha256 bytea not null,
  size_bytes bigint not null,
  content_id bigint not null,
  place text not null check (place in ('postgres', 'directory')),
  created_at timestamptz not null default clock_timestamp(),
  used_at timestamptz not null default clock_timestamp(),
  primary key (namespace_id, sha256)
);
comment on table baton.blobs is 'Committed blobs, by what they are. Nothing refers to a blob that is not here.';
comment on column baton.blobs.namespace_id is 'Namespace.';
comment on column baton.blobs.sha256 is 'Of all bytes.';
comment on column baton.blobs.size_bytes is 'Size, bytes.';
comment on column baton.blobs.content_id is 'Names the bytes: in blob_chunks, or the file in the directory.';
comment on column baton.blobs.place is 'Where the bytes are.';
comment on column baton.blobs.created_at is 'When it was committed.';
comment on column baton.blobs.used_at is 'When it was last committed, referred to, or found to be needed; an unreferenced one is deleted a day after.';
create index blobs_used on baton.blobs (used_at);
-- What may refer to a blob. Few tasks do, and the others pay nothing.
create index tasks_input_blob on baton.tasks (namespace_id, input_blob) where input_blob is not null;
create index outcomes_output_blob on baton.outcomes (namespace_id, output_blob) where output_blob is not null;

create table baton.blob_uploads (
  id bigint primary key,
  namespace_id integer not null,
  size_bytes bigint not null,
  received_bytes bigint not null default 0,
  place text not null check (place in ('postgres', 'directory')),
  expires_at timestamptz not null
);
comment on table baton.blob_uploads is 'Uploads under way. Nobody sees their bytes.';
comment on column baton.blob_uploads.id is 'Upload; becomes the content_id.';
comment on column baton.blob_uploads.namespace_id is 'Namespace.';
comment on column baton.blob_uploads.size_bytes is 'Announced size.';
comment on column baton.blob_uploads.received_bytes is 'So far, without a gap.';
comment on column baton.blob_uploads.place is 'Where the bytes go.';
comment on column baton.blob_uploads.expires_at is 'Given up after this time.';

create table baton.blob_chunks (
  content_id bigint not null,
  byte_offset bigint not null,
  data bytea not null,
  primary key (content_id, byte_offset)
);
alter table baton.blob_chunks alter column data set storage external;
comment on table baton.blob_chunks is 'Bytes of blobs that are kept in Postgres.';
comment on column baton.blob_chunks.content_id is 'As in blobs.';
comment on column baton.blob_chunks.byte_offset is 'Of its first byte.';
comment on column baton.blob_chunks.data is 'At most 1 MiB.';

-- checkpoints and output ------------------------------------------------------------------------------------------------------

create table baton.checkpoints (
  task_id bigint not null,
  number bigint not null,
  created_at timestamptz not null,
  size_bytes bigint not null,
  score double precision,
  epoch integer not null,
  worker_id integer not null,
  attempt smallint not null,
  encoding smallint not null check (encoding in (1, 2)),
  sha256 bytea not null,
  data bytea,
  in_blob boolean not null,
  save_id text not null,
  metadata jsonb,
  primary key (task_id, number),
  check (in_blob = (data is null))
) partition by range (task_id);
comment on table baton.checkpoints is 'Where tasks can go on from. A row is written once, whole, under the fence of its lease.';
comment on column baton.checkpoints.task_id is 'Task.';
comment on column baton.checkpoints.number is '1, 2, … per task, in the order of saving.';
comment on column baton.checkpoints.created_at is 'When it was committed.';
comment on column baton.checkpoints.size_bytes is 'Size, bytes.';
comment on column baton.checkpoints.score is 'The higher the better; null: not scored.';
comment on column baton.checkpoints.epoch is 'Epoch of the attempt that saved it.';
comment on column baton.checkpoints.worker_id is 'Worker that saved it.';
comment on column baton.checkpoints.attempt is 'Number of that attempt.';
comment on column baton.checkpoints.encoding is 'As input_encoding of tasks.';
comment on column baton.checkpoints.sha256 is 'Of its bytes; the blob where in_blob is set.';
comment on column baton.checkpoints.data is 'Its bytes, where they are small.';
comment on column baton.checkpoints.in_blob is 'Its bytes are a blob.';
comment on column baton.checkpoints.save_id is 'Made by the worker for this save: a repeated call writes nothing.';
comment on column baton.checkpoints.metadata is 'The task''s own words.';
create index checkpoints_blob on baton.checkpoints (sha256) where in_blob;

create table baton.checkpoint_saves (
  task_id bigint not null,
  save_id text not null,
  number bigint not null,
  epoch integer not null,
  primary key (task_id, save_id)
);
comment on table baton.checkpoint_saves is 'Saves of the leases that are held: a repeated one writes nothing, also when its checkpoint has been pruned since.';
comment on column baton.checkpoint_saves.task_id is 'Task.';
comment on column baton.checkpoint_saves.save_id is 'As in checkpoints.';
comment on column baton.checkpoint_saves.number is 'The number that it was given.';
comment on column baton.checkpoint_saves.epoch is 'Epoch of the lease; rows of older ones go.';

create table baton.checkpoint_counters (
  task_id bigint primary key,
  last_number bigint not null
);
comment on table baton.checkpoint_counters is 'The last number given to a checkpoint of a task: deleting checkpoints does not give numbers again.';
comment on column baton.checkpoint_counters.task_id is 'Task.';
comment on column baton.checkpoint_counters.last_number is 'Last number.';

create table baton.task_outputs (
  task_id bigint not null,
  byte_offset bigint not null,
  at timestamptz not null,
  epoch integer not null,
  attempt smallint not null,
  data bytea not null,
  primary key (task_id, epoch, byte_offset)
) partition by range (task_id);
-- Written and read once: compressing it would cost the master's database more than the bytes.
alter table baton.task_outputs alter column data set storage external;
comment on table baton.task_outputs is 'Output that tasks stream while they run, in chunks without a gap.';
comment on column baton.task_outputs.task_id is 'Task.';
comment on column baton.task_outputs.byte_offset is 'Of the chunk''s first byte, counted from the attempt''s beginning.';
comment on column baton.task_outputs.at is 'When it was kept.';
comment on column baton.task_outputs.epoch is 'Epoch of the attempt.';
comment on column baton.task_outputs.attempt is 'Number of the attempt.';
comment on column baton.task_outputs.data is 'Bytes.';

create table baton.cancel_requests (
  task_id bigint not null,
  at timestamptz not null,
  epoch integer not null,
  reason text not null,
  primary key (task_id, epoch)
) partition by range (task_id);
comment on table baton.cancel_requests is 'The first time that the worker of a leased task was asked to stop it, for each lease. For the task''s history.';
comment on column baton.cancel_requests.task_id is 'Task.';
comment on column baton.cancel_requests.at is 'When.';
comment on column baton.cancel_requests.epoch is 'Epoch of the lease.';
comment on column baton.cancel_requests.reason is 'Why.';

alter table baton.event_log add column dropped_xid xid8, add column dropped_id bigint;
comment on column baton.event_log.dropped_xid is 'Transaction of the last event that was dropped for its age; cursors before it are refused.';
comment on column baton.event_log.dropped_id is 'Its id.';

-- partitions ------------------------------------------------------------------------------------------------------------------

create or replace function baton.ensure_partitions(weeks_ahead integer default 4) returns integer language plpgsql as $$
declare
  monday timestamptz := date_trunc('week', clock_timestamp() at time zone 'UTC') at time zone 'UTC';
  from_at timestamptz;
  until_at timestamptz;
  parent text;
  part text;
  bounds text[];
  described record;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('baton.partitions'));
  for week in 0..weeks_ahead loop
    from_at := monday + week * interval '7 days';
    until_at := from_at + interval '7 days';
    foreach parent in array array['tasks', 'attempts', 'outcomes', 'task_logs', 'events', 'checkpoints', 'task_outputs', 'cancel_requests'] loop
      part := parent || '_' || to_char(from_at at time zone 'UTC', 'IYYY"w"IW');
      continue when to_regclass('baton.' || part) is not null;
      -- Made apart and attached: that waits for nobody and nobody waits for it, where "partition of" wants the parent for itself.
      bounds := case when parent = 'events' then array[quote_literal(from_at), quote_literal(until_at)]
                     else array[baton.id_at(from_at)::text, baton.id_at(until_at)::text] end;
      -- The first partition of all reaches back without end: a master's clock may be behind.
      if not exists (select from pg_inherits where inhparent = ('baton.' || parent)::regclass) then
        bounds[1] := 'minvalue';
      end if;
      execute format('create table baton.%I (like baton.%I including all excluding identity)', part, parent);
      execute format('alter table baton.%I attach partition baton.%I for values from (%s) to (%s)', parent, part, bounds[1], bounds[2]);
      -- People look at partitions too: they say what their parent says.
      execute format('comment on table baton.%I is %L', part,
        format('Partition of %s, from %s until %s.', parent, from_at::date, until_at::date));
      for described in
        select attname, col_description(attrelid, attnum) as text from pg_attribute
        where attrelid = ('baton.' || parent)::regclass and attnum > 0 and not attisdropped
      loop
        execute format('comment on column baton.%I.%I is %L', part, described.attname, described.text);
      end loop;
      made := made + 1;
    end loop;
  end loop;
  return made;
end $$;

create function baton.retire_partitions(parents text[], partitions text[], upper_bound bigint, kept bigint[], lock_timeout_ms integer)
returns text language plpgsql as $$
declare
  living bigint[];
  old_name text;
  next_name text;
  id_column text;
begin
  if not pg_try_advisory_xact_lock(hashtext('baton.retention')) then
    return 'busy';
  end if;
  -- Whoever waits here makes everybody wait behind it: not for long, and then again later.
  perform set_config('lock_timeout', lock_timeout_ms || 'ms', true);
  -- Of a large partition few rows are wanted, of new tables no statistics are there.
  perform set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
  for i in 1 .. cardinality(parents) loop
    if not exists (
      select from pg_inherits where inhparent = ('baton.' || quote_ident(parents[i]))::regclass and inhrelid = to_regclass('baton.' || quote_ident(partitions[i]))
    ) then
      return 'gone';
    end if;
  end loop;

  -- First without a lock that anybody minds: a table for what is kept of all that is older.
  for i in 1 .. cardinality(parents) loop
    continue when parents[i] = 'events';
    id_column := case when parents[i] = 'tasks' then 'id' else 'task_id' end;
    next_name := parents[i] || '_old_next';
    execute format('create table baton.%I (like baton.%I including all excluding identity, constraint in_time check (%I < %s))', next_name, parents[i], id_column, upper_bound);
    perform baton.copy_kept(parents[i], parents[i] || '_old', next_name, kept);
    perform baton.copy_kept(parents[i], partitions[i], next_name, kept);
  end loop;

  -- Then what has to be done alone.
  for i in 1 .. cardinality(parents) loop
    if to_regclass('baton.' || quote_ident(parents[i] || '_old')) is not null then
      execute format('alter table baton.%I detach partition baton.%I', parents[i], parents[i] || '_old');
    end if;
    execute format('alter table baton.%I detach partition baton.%I', parents[i], partitions[i]);
  end loop;
  living := kept || array(
    select task_id from baton.ready where task_id < upper_bound union all
    select task_id from baton.waiting where task_id < upper_bound union all
    select task_id from baton.leases where task_id < upper_bound
  );
  for i in 1 .. cardinality(parents) loop
    old_name := parents[i] || '_old';
    next_name := parents[i] || '_old_next';
    if parents[i] <> 'events' then
      perform baton.copy_kept(parents[i], old_name, next_name, living);
      perform baton.copy_kept(parents[i], partitions[i], next_name, living);
      -- Of checkpoints some may have been deleted since they were copied; of the other tables no rows are.
      if parents[i] = 'checkpoints' then
        execute format('delete from baton.%I n where not exists (select from baton.%I p where p.task_id = n.task_id and p.number = n.number)', next_name, partitions[i])
          || case when to_regclass('baton.' || old_name) is null then ''
             else format(' and not exists (select from baton.%I p where p.task_id = n.task_id and p.number = n.number)', old_name) end;
      end if;
      execute format('drop table if exists baton.%I', old_name);
      execute format('alter table baton.%I rename to %I', next_name, old_name);
      execute format('alter table baton.%I attach partition baton.%I for values from (minvalue) to (%s)', parents[i], old_name, upper_bound);
      execute format('alter table baton.%I drop constraint in_time', old_name);
      execute format('comment on table baton.%I is %L', old_name,
        format('Partition of %s, until %s: what was kept of dropped partitions, because it lived or had ended lately.', parents[i], baton.id_time(upper_bound)::date));
    end if;
    execute format('drop table baton.%I', partitions[i]);
  end loop;
  return 'dropped';
end $$;
comment on function baton.retire_partitions(text[], text[], bigint, bigint[], integer) is 'Drops the oldest partitions of these tables in one step, and keeps the rows of the tasks named, and of those that live, in a partition for all that is older. Says what became of them: dropped, busy (others are at it) or gone.';

create function baton.copy_kept(parent text, source text, target text, kept bigint[]) returns void language plpgsql as $$
declare
  columns text;
begin
  if to_regclass('baton.' || quote_ident(source)) is null or kept = '{}' then
    return;
  end if;
  select string_agg(quote_ident(attname), ', ' order by attnum) into columns
  from pg_attribute where attrelid = ('baton.' || quote_ident(parent))::regclass and attnum > 0 and not attisdropped;
  execute format('insert into baton.%I (%s) select %s from baton.%I where %I = any($1) on conflict do nothing',
    target, columns, columns, source, case when parent = 'tasks' then 'id' else 'task_id' end) using kept;
end $$;
comment on function baton.copy_kept(text, text, text, bigint[]) is 'Copies the rows of these tasks from one partition to another table, those that are not there.';

-- for people who look with SQL -------------------------------------------------------------------------------------------------

create view baton.v_failures as
select a.task_id, r.queue, r.kind, a.attempt, a.epoch, a.ended_at as at, w.name as worker, a.failure ->> 'device' as device,
  coalesce(a.failure ->> 'type', 'WORKER_CRASH') as type, a.failure ->> 'message' as message, a.state as attempt_state,
  o.state = 'succeeded' as recovered, a.retry_delay_ms
from baton.attempts a
join baton.tasks t on t.id = a.task_id
join baton.routes r on r.id = t.route_id
join baton.workers w on w.id = a.worker_id
left join baton.outcomes o on o.task_id = a.task_id
where a.state in ('failed', 'lost');
comment on view baton.v_failures is 'Every failed or lost attempt as a record. Order by at desc.';
comment on column baton.v_failures.task_id is 'Task.';
comment on column baton.v_failures.queue is 'Queue.';
comment on column baton.v_failures.kind is 'Kind of task.';
comment on column baton.v_failures.attempt is 'Number of the attempt.';
comment on column baton.v_failures.epoch is 'Epoch of its lease.';
comment on column baton.v_failures.at is 'When.';
comment on column baton.v_failures.worker is 'Worker that held the lease.';
comment on column baton.v_failures.device is 'The device at fault, if one was named.';
comment on column baton.v_failures.type is 'Kind of failure, e.g. WORKER_CRASH.';
comment on column baton.v_failures.message is 'Why.';
comment on column baton.v_failures.attempt_state is 'failed, or lost with its worker.';
comment on column baton.v_failures.recovered is 'The task succeeded after it; null: it has not ended.';
comment on column baton.v_failures.retry_delay_ms is 'The delay chosen before the next attempt, ms.';

create view baton.v_breakers as
select w.name as worker, n.name as namespace, b.device, b.state, b.changed_at, b.reason, b.successes, b.probe_task_id
from baton.breakers b join baton.workers w on w.id = b.worker_id join baton.namespaces n on n.id = w.namespace_id;
comment on view baton.v_breakers is 'Circuit breakers that have opened at least once.';
comment on column baton.v_breakers.worker is 'Worker.';
comment on column baton.v_breakers.namespace is 'Namespace.';
comment on column baton.v_breakers.device is 'UUID of the device; empty: the worker itself.';
comment on column baton.v_breakers.state is 'closed, open or half_open.';
comment on column baton.v_breakers.changed_at is 'When it came to this state.';
comment on column baton.v_breakers.reason is 'Why it opened last, or who closed it.';
comment on column baton.v_breakers.successes is 'Successful probes since it became half-open.';
comment on column baton.v_breakers.probe_task_id is 'The task that is the probe.';

create view baton.v_checkpoints as
select c.task_id, c.number, c.attempt, c.created_at, c.size_bytes, encode(c.sha256, 'hex') as sha256, c.score, c.in_blob, w.name as worker, c.metadata
from baton.checkpoints c join baton.workers w on w.id = c.worker_id;
comment on view baton.v_checkpoints is 'Checkpoints of tasks, without their bytes.';
comment on column baton.v_checkpoints.task_id is 'Task.';
comment on column baton.v_checkpoints.number is '1, 2, … per task.';
comment on column baton.v_checkpoints.attempt is 'Number of the attempt that saved it.';
comment on column baton.v_checkpoints.created_at is 'When it was committed.';
comment on column baton.v_checkpoints.size_bytes is 'Size, bytes.';
comment on column baton.v_checkpoints.sha256 is 'Of its bytes, hex.';
comment on column baton.v_checkpoints.score is 'The higher the better.';
comment on column baton.v_checkpoints.in_blob is 'Its bytes are a blob.';
comment on column baton.v_checkpoints.worker is 'Worker that saved it.';
comment on column baton.v_checkpoints.metadata is 'The task''s own words.';

insert into baton.sweeps values ('retention', '-infinity') on conflict do nothing;

-- Existing partitions say of the new columns what their parent says.
do $$
declare part record;
begin
  for part in
    select c.oid::regclass as name, a.attname, col_description(i.inhparent, p.attnum) as text
    from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'baton'
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_attribute p on p.attrelid = i.inhparent and p.attname = a.attname
    where c.relkind = 'r' and col_description(c.oid, a.attnum) is null
  loop
    execute format('comment on column %s.%I is %L', part.name, part.attname, part.text);
  end loop;
end $$;

do $$
begin
  if exists (select from pg_roles where rolname = 'baton_readonly') then
    grant select on all tables in schema baton to baton_readonly;
  end if;
exception when insufficient_privilege then
  raise notice 'baton_readonly was not granted: %', sqlerrm;
end $$;

select baton.ensure_partitions();
