-- The foundation: where a task's state is the table its row is in.
--
-- tasks, attempts, outcomes, task_logs and events are insert-only and partitioned by time (ids are time-ordered, so a range
-- of ids is a range of time). ready, waiting, leases and sessions are narrow and short-lived. Nothing wide is updated.
-- Every write of a worker is guarded by (task, epoch, session). Times are clock_timestamp() of this database.
--
-- Long because each table stands beside the comments on its columns, and the first schema is reviewed whole.

create schema if not exists baton;
comment on schema baton is 'Baton: durable tasks and workflows. Look at the v_* views first.';

-- ids ------------------------------------------------------------------------------------------------------------------

create function baton.id_at(at timestamptz) returns bigint language sql immutable strict parallel safe as
$$ select ((extract(epoch from at) * 1000)::bigint - 1735689600000) << 22 $$;
comment on function baton.id_at(timestamptz) is 'The smallest id a master can make at this time. Ids: milliseconds since 2025-01-01 UTC (41 bits), node (10), counter (12).';

create function baton.id_time(id bigint) returns timestamptz language sql immutable strict parallel safe as
$$ select to_timestamp(((id >> 22) + 1735689600000) / 1000.0) $$;
comment on function baton.id_time(bigint) is 'When an id was made, by the clock of the master that made it.';

-- who is there -----------------------------------------------------------------------------------------------------------

create table baton.masters (
  node smallint primary key check (node between 0 and 1023),
  instance text not null,
  address text not null,
  started_at timestamptz not null,
  expires_at timestamptz not null,
  id_floor bigint not null
);
comment on table baton.masters is 'Leased node numbers: the part of an id that keeps masters apart.';
comment on column baton.masters.node is 'The leased number, 0 to 1023.';
comment on column baton.masters.instance is 'The life of the master that holds it.';
comment on column baton.masters.address is 'Where that master serves.';
comment on column baton.masters.started_at is 'When this life began.';
comment on column baton.masters.expires_at is 'Free to others after this time.';
comment on column baton.masters.id_floor is 'The next holder makes only ids above this one, even if its clock is behind.';

create table baton.namespaces (
  id integer generated always as identity primary key,
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  created_at timestamptz not null default clock_timestamp()
);
comment on table baton.namespaces is 'Tenants. Part of every key; interned to keep keys small.';
comment on column baton.namespaces.id is 'The number that stands for the name in all other tables.';
comment on column baton.namespaces.name is 'The name in requests; "default" when a request names none.';
comment on column baton.namespaces.created_at is 'When it was first used.';
insert into baton.namespaces (name) values ('default');

create table baton.workers (
  id integer generated always as identity primary key,
  namespace_id integer not null references baton.namespaces,
  name text not null,
  session_id bigint not null,
  capabilities jsonb not null,
  service_url text not null,
  version text not null,
  metadata jsonb not null,
  principal text,
  registered_at timestamptz not null,
  unique (namespace_id, name)
);
comment on table baton.workers is 'Workers by name, as they last registered. Written at registration only.';
comment on column baton.workers.id is 'The number that stands for the worker in attempts.';
comment on column baton.workers.namespace_id is 'Namespace.';
comment on column baton.workers.name is 'Stable over restarts.';
comment on column baton.workers.session_id is 'Its newest session.';
comment on column baton.workers.capabilities is 'What the machine has and what it takes, as registered.';
comment on column baton.workers.service_url is 'Where its WorkerService answers; empty if nowhere.';
comment on column baton.workers.version is 'Version of the worker''s software.';
comment on column baton.workers.metadata is 'The worker''s own words.';
comment on column baton.workers.principal is 'Who registered it; null while tokens are not in use.';
comment on column baton.workers.registered_at is 'When it last registered.';

create table baton.sessions (
  id bigint primary key,
  expires_at timestamptz not null,
  renewed_at timestamptz not null,
  registered_at timestamptz not null,
  namespace_id integer not null,
  worker_id integer not null,
  state text not null check (state in ('active', 'draining', 'closed')),
  shutdown boolean not null default false,
  instance_id text not null,
  reason text,
  metrics jsonb
) with (fillfactor = 40);
comment on table baton.sessions is 'Lives of workers. Leases belong to a session, so renewing costs one row per worker. No index on expiry: updates stay HOT.';
comment on column baton.sessions.id is 'Session id.';
comment on column baton.sessions.expires_at is 'When it and its leases end unless renewed.';
comment on column baton.sessions.renewed_at is 'Its last heartbeat.';
comment on column baton.sessions.registered_at is 'When it began.';
comment on column baton.sessions.namespace_id is 'Namespace.';
comment on column baton.sessions.worker_id is 'The worker whose life it is.';
comment on column baton.sessions.state is 'active: gets work. draining: finishes what it holds. closed: over, gets no lease and cannot renew; finished work is still taken until its leases are taken back.';
comment on column baton.sessions.shutdown is 'The worker is told to hand back what it holds and to leave.';
comment on column baton.sessions.instance_id is 'Made by the worker for this life; makes registering repeatable.';
comment on column baton.sessions.reason is 'Why it drains or was closed.';
comment on column baton.sessions.metrics is 'Gauges of the last heartbeat.';
create unique index sessions_instance on baton.sessions (worker_id, instance_id);

-- what tasks have in common -----------------------------------------------------------------------------------------------

create table baton.queues (
  namespace_id integer not null references baton.namespaces,
  name text not null,
  paused boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  primary key (namespace_id, name)
);
comment on table baton.queues is 'Named dispatch lines.';
comment on column baton.queues.namespace_id is 'Namespace.';
comment on column baton.queues.name is 'Name.';
comment on column baton.queues.paused is 'Nothing is granted from it. Copied to its lanes, where the claim guards it.';
comment on column baton.queues.created_at is 'When it was first used.';

create table baton.routes (
  id integer generated always as identity primary key,
  namespace_id integer not null references baton.namespaces,
  queue text not null,
  kind text not null,
  unique (namespace_id, queue, kind)
);
comment on table baton.routes is 'Interned (namespace, queue, kind): what lists filter by. Never collected, because history names it.';
comment on column baton.routes.id is 'The number that stands for the three in tasks and outcomes.';
comment on column baton.routes.namespace_id is 'Namespace.';
comment on column baton.routes.queue is 'Queue.';
comment on column baton.routes.kind is 'Kind of task.';

create table baton.lanes (
  id integer generated always as identity primary key,
  namespace_id integer not null references baton.namespaces,
  route_id integer not null references baton.routes,
  executor text not null check (executor in ('function', 'process', 'grpc', 'http', 'container', 'slurm')),
  task_class text not null check (task_class in ('cpu_short', 'cpu_long', 'gpu', 'gpu_slurm')),
  tags text[] not null default '{}',
  fairness_key text not null default '',
  paused boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  unique (route_id, executor, task_class, tags, fairness_key)
);
comment on table baton.lanes is 'Interned (route, executor, requirements, fairness key): all tasks of a lane can be done by the same workers. What stops dispatch is a property of a lane.';
comment on column baton.lanes.id is 'The number that stands for the lane in ready, waiting and leases.';
comment on column baton.lanes.namespace_id is 'Namespace.';
comment on column baton.lanes.route_id is 'Queue and kind.';
comment on column baton.lanes.executor is 'How its tasks are carried out.';
comment on column baton.lanes.task_class is 'The kind of machine its tasks need.';
comment on column baton.lanes.tags is 'Tags a worker must have: lower case, sorted.';
comment on column baton.lanes.fairness_key is 'Shares are dealt among these; empty when unused.';
comment on column baton.lanes.paused is 'Nothing is granted from it.';
comment on column baton.lanes.created_at is 'When it was first used.';

create table baton.idempotency (
  namespace_id integer not null,
  scope text not null,
  key text not null,
  body_hash bytea not null,
  id bigint not null,
  expires_at timestamptz not null,
  primary key (namespace_id, scope, key)
);
comment on table baton.idempotency is 'Keys that make submitting repeatable. Inserted first, in the statement that stores the task or run.';
comment on column baton.idempotency.namespace_id is 'Namespace.';
comment on column baton.idempotency.scope is '"task:" and the kind, or "run:" and the workflow.';
comment on column baton.idempotency.key is 'The client''s key.';
comment on column baton.idempotency.body_hash is 'SHA-256 of the request; the same key with another body is refused.';
comment on column baton.idempotency.id is 'The task or run that the key stands for.';
comment on column baton.idempotency.expires_at is 'The key is free again after this time.';
create index idempotency_expiry on baton.idempotency (expires_at);

-- tasks ---------------------------------------------------------------------------------------------------------------------

create table baton.tasks (
  id bigint not null primary key,
  created_at timestamptz not null default clock_timestamp(),
  due_at timestamptz,
  run_id bigint,
  retry_of bigint,
  start_to_close_ms bigint not null,
  namespace_id integer not null,
  route_id integer not null,
  lane_id integer not null,
  priority smallint not null,
  max_attempts smallint not null check (max_attempts between 1 and 1000),
  input_encoding smallint not null check (input_encoding in (1, 2)),
  input bytea,
  executor_config jsonb,
  retry jsonb,
  node_id text,
  labels jsonb,
  idempotency_key text,
  principal text
) partition by range (id);
comment on table baton.tasks is 'What is to be done. Written once.';
comment on column baton.tasks.id is 'Task id; see baton.id_time.';
comment on column baton.tasks.created_at is 'When it was stored.';
comment on column baton.tasks.due_at is 'Not before this time; null: at once.';
comment on column baton.tasks.run_id is 'The run that it belongs to.';
comment on column baton.tasks.retry_of is 'The ended task that it sends again.';
comment on column baton.tasks.start_to_close_ms is 'Longest time from the start of an attempt to its end, ms.';
comment on column baton.tasks.namespace_id is 'Namespace.';
comment on column baton.tasks.route_id is 'Queue and kind.';
comment on column baton.tasks.lane_id is 'Lane at submission.';
comment on column baton.tasks.priority is 'Higher first.';
comment on column baton.tasks.max_attempts is 'Attempts in all, lost workers not counted.';
comment on column baton.tasks.input_encoding is '1: JSON text in UTF-8. 2: bytes of the user''s own.';
comment on column baton.tasks.input is 'Input, as bytes. convert_from(input, ''UTF8'') shows JSON.';
comment on column baton.tasks.executor_config is 'What the executor needs, e.g. {"address", "method"} of grpc; null for function.';
comment on column baton.tasks.retry is 'Retry policy where it is not the default: initial_delay_ms, factor, max_delay_ms, jitter.';
comment on column baton.tasks.node_id is 'The node of the run that it carries out.';
comment on column baton.tasks.labels is 'The client''s own words.';
comment on column baton.tasks.idempotency_key is 'The client''s key.';
comment on column baton.tasks.principal is 'Who submitted it; null while tokens are not in use.';

create table baton.ready (
  task_id bigint not null primary key,
  position bigint not null,
  run_id bigint,
  start_to_close_ms bigint not null,
  lane_id integer not null,
  epoch integer not null default 0,
  priority smallint not null,
  attempt smallint not null default 0,
  max_attempts smallint not null,
  crashes smallint not null default 0,
  input_encoding smallint not null,
  input bytea
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table baton.ready alter column input set storage plain;
comment on table baton.ready is 'Tasks that may be leased now. A row is here or in waiting or in leases or its end is in outcomes.';
comment on column baton.ready.task_id is 'Task.';
comment on column baton.ready.position is 'Place in the lane among equal priorities: the task''s id, or the id of the time it was due.';
comment on column baton.ready.run_id is 'The run that it belongs to.';
comment on column baton.ready.start_to_close_ms is 'As in tasks.';
comment on column baton.ready.lane_id is 'Lane.';
comment on column baton.ready.epoch is 'Epoch of the last lease; the next one is one more.';
comment on column baton.ready.priority is 'Higher first.';
comment on column baton.ready.attempt is 'Attempts begun so far.';
comment on column baton.ready.max_attempts is 'As in tasks.';
comment on column baton.ready.crashes is 'How many of them were lost with their worker.';
comment on column baton.ready.input_encoding is 'As in tasks.';
comment on column baton.ready.input is 'A small input rides along (at most 1 KiB, function tasks); null: it is read from tasks.';
create index ready_dispatch on baton.ready (lane_id, priority desc, position);

create table baton.waiting (
  task_id bigint not null primary key,
  due_at timestamptz,
  run_id bigint,
  start_to_close_ms bigint not null,
  lane_id integer not null,
  epoch integer not null default 0,
  priority smallint not null,
  attempt smallint not null default 0,
  max_attempts smallint not null,
  crashes smallint not null default 0,
  input_encoding smallint not null,
  reason text not null check (reason in ('scheduled', 'backoff', 'blocked')),
  check ((due_at is null) = (reason = 'blocked'))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table baton.waiting is 'Tasks that are due later (scheduled, backoff) or wait for something else (blocked).';
comment on column baton.waiting.task_id is 'Task.';
comment on column baton.waiting.due_at is 'When it becomes ready.';
comment on column baton.waiting.run_id is 'The run that it belongs to.';
comment on column baton.waiting.start_to_close_ms is 'As in tasks.';
comment on column baton.waiting.lane_id is 'Lane.';
comment on column baton.waiting.epoch is 'Epoch of the last lease.';
comment on column baton.waiting.priority is 'Higher first.';
comment on column baton.waiting.attempt is 'Attempts begun so far.';
comment on column baton.waiting.max_attempts is 'As in tasks.';
comment on column baton.waiting.crashes is 'How many of them were lost with their worker.';
comment on column baton.waiting.input_encoding is 'As in tasks.';
comment on column baton.waiting.reason is 'scheduled: run-at. backoff: the delay after a failure. blocked: a slot or other work.';
create index waiting_due on baton.waiting (due_at) where due_at is not null;

create table baton.leases (
  task_id bigint not null primary key,
  session_id bigint not null,
  granted_at timestamptz not null,
  started_at timestamptz,
  position bigint not null,
  run_id bigint,
  start_to_close_ms bigint not null,
  lane_id integer not null,
  epoch integer not null,
  priority smallint not null,
  attempt smallint not null,
  max_attempts smallint not null,
  crashes smallint not null,
  input_encoding smallint not null,
  cancel_reason text
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table baton.leases is 'The right to one attempt at a task, held by a worker session until that session expires.';
comment on column baton.leases.task_id is 'Task.';
comment on column baton.leases.session_id is 'Holder.';
comment on column baton.leases.granted_at is 'When it was granted.';
comment on column baton.leases.started_at is 'When the work began, as the worker reported; null: not yet, or too short to be reported.';
comment on column baton.leases.position is 'As in ready.';
comment on column baton.leases.run_id is 'The run that it belongs to.';
comment on column baton.leases.start_to_close_ms is 'As in tasks.';
comment on column baton.leases.lane_id is 'Lane.';
comment on column baton.leases.epoch is 'The fence: each write of the worker names it.';
comment on column baton.leases.priority is 'As in ready.';
comment on column baton.leases.attempt is 'Number of this attempt.';
comment on column baton.leases.max_attempts is 'As in tasks.';
comment on column baton.leases.crashes is 'As in ready.';
comment on column baton.leases.input_encoding is 'As in tasks.';
comment on column baton.leases.cancel_reason is 'The worker was asked to stop, and why.';
create index leases_session on baton.leases (session_id);

create table baton.attempts (
  task_id bigint not null,
  session_id bigint not null,
  granted_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz not null,
  retry_delay_ms bigint,
  epoch integer not null,
  worker_id integer not null,
  attempt smallint not null,
  state text not null check (state in ('succeeded', 'failed', 'cancelled', 'lost', 'returned')),
  failure jsonb,
  primary key (task_id, epoch)
) partition by range (task_id);
comment on table baton.attempts is 'What became of each lease. Written once, when it ends.';
comment on column baton.attempts.task_id is 'Task.';
comment on column baton.attempts.session_id is 'The session that held the lease.';
comment on column baton.attempts.granted_at is 'When it was granted.';
comment on column baton.attempts.started_at is 'When the work began: the end less the time the worker says it ran.';
comment on column baton.attempts.ended_at is 'When the lease ended.';
comment on column baton.attempts.retry_delay_ms is 'The delay chosen before the next attempt, ms.';
comment on column baton.attempts.epoch is 'Its epoch.';
comment on column baton.attempts.worker_id is 'The worker that held it.';
comment on column baton.attempts.attempt is 'Number of the attempt.';
comment on column baton.attempts.state is 'lost: the session ended without a word. returned: handed back at no cost.';
comment on column baton.attempts.failure is 'type, message, exception_type, stack, non_retryable.';

create table baton.outcomes (
  task_id bigint not null primary key,
  run_id bigint,
  ended_at timestamptz not null,
  namespace_id integer not null,
  route_id integer not null,
  worker_id integer,
  epoch integer not null,
  attempt smallint not null,
  output_encoding smallint,
  state text not null check (state in ('succeeded', 'failed', 'cancelled')),
  output bytea,
  failure jsonb,
  cancel_reason text
) partition by range (task_id);
comment on table baton.outcomes is 'The end of each task. Written once; an end is final.';
comment on column baton.outcomes.task_id is 'Task.';
comment on column baton.outcomes.run_id is 'The run that it belongs to.';
comment on column baton.outcomes.ended_at is 'When it ended.';
comment on column baton.outcomes.namespace_id is 'Namespace.';
comment on column baton.outcomes.route_id is 'Queue and kind.';
comment on column baton.outcomes.worker_id is 'Worker of the last attempt.';
comment on column baton.outcomes.epoch is 'Epoch of the last attempt.';
comment on column baton.outcomes.attempt is 'Number of the last attempt; 0: ended before the first.';
comment on column baton.outcomes.output_encoding is 'As input_encoding.';
comment on column baton.outcomes.state is 'succeeded, failed or cancelled.';
comment on column baton.outcomes.output is 'Output, as bytes.';
comment on column baton.outcomes.failure is 'Of the last attempt.';
comment on column baton.outcomes.cancel_reason is 'Why it was cancelled.';
create index outcomes_list on baton.outcomes (route_id, state, task_id);

create table baton.task_logs (
  task_id bigint not null,
  sequence bigint not null,
  at timestamptz not null,
  epoch integer not null,
  attempt smallint not null,
  stream text not null,
  text text not null,
  primary key (task_id, epoch, sequence)
) partition by range (task_id);
comment on table baton.task_logs is 'Lines that tasks wrote.';
comment on column baton.task_logs.task_id is 'Task.';
comment on column baton.task_logs.sequence is 'Rises within the attempt; a repeated line is dropped.';
comment on column baton.task_logs.at is 'When it was written, by the worker''s clock.';
comment on column baton.task_logs.epoch is 'Epoch of the attempt.';
comment on column baton.task_logs.attempt is 'Number of the attempt.';
comment on column baton.task_logs.stream is 'stdout, stderr or log.';
comment on column baton.task_logs.text is 'One line.';

-- workflows -----------------------------------------------------------------------------------------------------------------

create table baton.workflows (
  namespace_id integer not null references baton.namespaces,
  name text not null,
  version integer not null,
  hash text not null,
  description text not null,
  definition text not null,
  stored_form text not null,
  principal text,
  created_at timestamptz not null default clock_timestamp(),
  primary key (namespace_id, name, version)
);
comment on table baton.workflows is 'Definitions, each version as it was applied. Runs are pinned to theirs.';
comment on column baton.workflows.namespace_id is 'Namespace.';
comment on column baton.workflows.name is 'Name.';
comment on column baton.workflows.version is '1, 2, …; one more for each changed definition.';
comment on column baton.workflows.hash is 'SHA-256 of the stored form, hex.';
comment on column baton.workflows.description is 'The author''s words.';
comment on column baton.workflows.definition is 'As it was applied, JSON text.';
comment on column baton.workflows.stored_form is 'Normalized, JSON text; nodes as a list, so that any node name is data.';
comment on column baton.workflows.principal is 'Who applied it; null while tokens are not in use.';
comment on column baton.workflows.created_at is 'When it was applied.';

create table baton.runs (
  id bigint primary key,
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  ended_at timestamptz,
  namespace_id integer not null references baton.namespaces,
  workflow_version integer not null,
  execution integer not null default 1,
  revision integer not null default 0,
  nodes_total integer not null,
  nodes_succeeded integer not null default 0,
  state text not null check (state in ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
  workflow_name text not null,
  input_encoding smallint not null default 1,
  input bytea,
  failed_node_id text,
  failure_message text,
  cancel_reason text,
  labels jsonb,
  idempotency_key text,
  principal text
) with (fillfactor = 70);
comment on table baton.runs is 'Executions of workflows.';
comment on column baton.runs.id is 'Run id.';
comment on column baton.runs.created_at is 'When it was stored.';
comment on column baton.runs.started_at is 'When its first node became ready, in this execution.';
comment on column baton.runs.ended_at is 'When this execution ended.';
comment on column baton.runs.namespace_id is 'Namespace.';
comment on column baton.runs.workflow_version is 'The version that it is pinned to.';
comment on column baton.runs.execution is '1, and one more for each retry of the run.';
comment on column baton.runs.revision is 'Guards each advance: whoever read an older one writes nothing.';
comment on column baton.runs.nodes_total is 'Nodes of its definition.';
comment on column baton.runs.nodes_succeeded is 'Nodes that have succeeded.';
comment on column baton.runs.state is 'pending, running, succeeded, failed or cancelled.';
comment on column baton.runs.workflow_name is 'The workflow.';
comment on column baton.runs.input_encoding is 'As in tasks.';
comment on column baton.runs.input is 'Input of the run, as bytes.';
comment on column baton.runs.failed_node_id is 'The node that stopped it.';
comment on column baton.runs.failure_message is 'Which node failed and why, in words.';
comment on column baton.runs.cancel_reason is 'It was asked to stop, and why.';
comment on column baton.runs.labels is 'The client''s own words.';
comment on column baton.runs.idempotency_key is 'The client''s key.';
comment on column baton.runs.principal is 'Who started it; null while tokens are not in use.';
create index runs_list on baton.runs (namespace_id, id);
create index runs_open on baton.runs (id) where state in ('pending', 'running');

create table baton.run_nodes (
  run_id bigint not null references baton.runs on delete cascade,
  ordinal integer not null,
  node_id text not null,
  state text not null check (state in ('pending', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
  task_id bigint,
  execution integer not null default 1,
  attempts integer not null default 0,
  worker_id integer,
  started_at timestamptz,
  ended_at timestamptz,
  output_hash text,
  failure jsonb,
  primary key (run_id, node_id)
) with (fillfactor = 70);
comment on table baton.run_nodes is 'The nodes of each run. A node is a task.';
comment on column baton.run_nodes.run_id is 'Run.';
comment on column baton.run_nodes.ordinal is 'Place in an order in which the nodes could run.';
comment on column baton.run_nodes.node_id is 'Name in the definition; any text.';
comment on column baton.run_nodes.state is 'running: its task is somewhere between ready and its end.';
comment on column baton.run_nodes.task_id is 'Its task in the execution named beside.';
comment on column baton.run_nodes.execution is 'The execution of the run in which it last ran.';
comment on column baton.run_nodes.attempts is 'Attempts over all executions.';
comment on column baton.run_nodes.worker_id is 'Worker of its last attempt.';
comment on column baton.run_nodes.started_at is 'When its task was submitted.';
comment on column baton.run_nodes.ended_at is 'When its task ended.';
comment on column baton.run_nodes.output_hash is 'SHA-256 of its output, hex.';
comment on column baton.run_nodes.failure is 'Why it failed.';

create table baton.advances (
  id bigint generated always as identity primary key,
  run_id bigint not null,
  task_id bigint,
  at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table baton.advances is 'Runs that have something to do: a node''s task ended, the run began, was cancelled or retried. Written with the change, taken by any master.';
comment on column baton.advances.id is 'Order.';
comment on column baton.advances.run_id is 'Run.';
comment on column baton.advances.task_id is 'The task that ended, if that is the reason.';
comment on column baton.advances.at is 'When it was written.';

-- events --------------------------------------------------------------------------------------------------------------------

create table baton.event_log (
  one boolean primary key default true check (one),
  log_id text not null
);
comment on table baton.event_log is 'Names this history: a cursor of another one (another database, a restored backup) is refused.';
comment on column baton.event_log.one is 'There is one row.';
comment on column baton.event_log.log_id is 'Made once, at random.';
insert into baton.event_log (log_id) values (replace(gen_random_uuid()::text, '-', ''));

create table baton.events (
  id bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default clock_timestamp(),
  namespace_ids integer[] not null,
  types smallint[] not null,
  task_ids bigint[] not null,
  run_ids bigint[] not null,
  attempts smallint[] not null,
  worker_ids integer[] not null,
  primary key (at, id)
) partition by range (at);
comment on table baton.events is 'What happened: one row per batch, arrays of equal length, written in the transaction of the change. Read in the order (xid, id), below the oldest open transaction.';
comment on column baton.events.id is 'Order within a transaction.';
comment on column baton.events.xid is 'The transaction that wrote it.';
comment on column baton.events.at is 'When.';
comment on column baton.events.namespace_ids is 'Namespace of each.';
comment on column baton.events.types is 'EventType of each, as numbered in proto/baton/v1/event.proto.';
comment on column baton.events.task_ids is 'Task of each; 0: none.';
comment on column baton.events.run_ids is 'Run of each; 0: none.';
comment on column baton.events.attempts is 'Attempt of each; 0: none.';
comment on column baton.events.worker_ids is 'Worker of each; 0: none.';
create index events_order on baton.events (xid, id);

-- sweeps --------------------------------------------------------------------------------------------------------------------

create table baton.sweeps (
  name text primary key,
  last_at timestamptz not null
);
comment on table baton.sweeps is 'When each periodic duty was last done, by any master.';
comment on column baton.sweeps.name is 'Duty.';
comment on column baton.sweeps.last_at is 'When. A long gap in "sessions" was an outage; sessions are extended by it.';
insert into baton.sweeps values ('sessions', clock_timestamp());

-- partitions ----------------------------------------------------------------------------------------------------------------

create function baton.ensure_partitions(weeks_ahead integer default 4) returns integer language plpgsql as $$
declare
  monday timestamptz := date_trunc('week', clock_timestamp() at time zone 'UTC') at time zone 'UTC';
  from_at timestamptz;
  until_at timestamptz;
  parent text;
  part text;
  described record;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('baton.partitions'));
  for week in 0..weeks_ahead loop
    from_at := monday + week * interval '7 days';
    until_at := from_at + interval '7 days';
    foreach parent in array array['tasks', 'attempts', 'outcomes', 'task_logs', 'events'] loop
      part := parent || '_' || to_char(from_at at time zone 'UTC', 'IYYY"w"IW');
      continue when to_regclass('baton.' || part) is not null;
      -- The first partition of all reaches back without end: a master's clock may be behind.
      if not exists (select from pg_inherits where inhparent = ('baton.' || parent)::regclass) then
        if parent = 'events' then
          execute format('create table baton.%I partition of baton.%I for values from (minvalue) to (%L)', part, parent, until_at);
        else
          execute format('create table baton.%I partition of baton.%I for values from (minvalue) to (%s)', part, parent, baton.id_at(until_at));
        end if;
      elsif parent = 'events' then
        execute format('create table baton.%I partition of baton.%I for values from (%L) to (%L)', part, parent, from_at, until_at);
      else
        execute format('create table baton.%I partition of baton.%I for values from (%s) to (%s)', part, parent, baton.id_at(from_at), baton.id_at(until_at));
      end if;
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
comment on function baton.ensure_partitions(integer) is 'Makes the weekly partitions from this week on. Called at start-up and daily. Returns how many it made.';

-- for people who look with SQL -------------------------------------------------------------------------------------------------

create function baton.payload_text(payload bytea, encoding smallint) returns text language plpgsql immutable parallel safe as $$
begin
  return case when payload is null then null when encoding = 1 then convert_from(payload, 'UTF8') else encode(payload, 'base64') end;
end $$;
comment on function baton.payload_text(bytea, smallint) is 'An input or output to look at: JSON as text, bytes in base64.';

create view baton.v_tasks as
select t.id, n.name as namespace, r.queue, r.kind,
  case when o.task_id is not null then o.state
       when l.task_id is not null then 'leased'
       when y.task_id is not null then 'ready'
       when w.task_id is not null then w.reason end as state,
  coalesce(o.attempt, l.attempt, y.attempt, w.attempt)::integer as attempt, t.max_attempts, t.priority,
  t.created_at, w.due_at, l.granted_at, o.ended_at, coalesce(wo.name, wl.name) as worker,
  baton.payload_text(t.input, t.input_encoding) as input, baton.payload_text(o.output, o.output_encoding) as output,
  o.failure ->> 'message' as failure, t.run_id, t.node_id, t.labels
from baton.tasks t
join baton.namespaces n on n.id = t.namespace_id
join baton.routes r on r.id = t.route_id
left join baton.outcomes o on o.task_id = t.id
left join baton.leases l on l.task_id = t.id
left join baton.ready y on y.task_id = t.id
left join baton.waiting w on w.task_id = t.id
left join baton.workers wo on wo.id = o.worker_id
left join baton.sessions s on s.id = l.session_id
left join baton.workers wl on wl.id = s.worker_id;
comment on view baton.v_tasks is 'Every task with its state, wherever its row is. Filter by id, or by time with id >= baton.id_at(...).';
comment on column baton.v_tasks.id is 'Task id.';
comment on column baton.v_tasks.namespace is 'Namespace.';
comment on column baton.v_tasks.queue is 'Queue.';
comment on column baton.v_tasks.kind is 'Kind of task.';
comment on column baton.v_tasks.state is 'scheduled, blocked, ready, leased, backoff, succeeded, failed or cancelled.';
comment on column baton.v_tasks.attempt is 'Attempts begun so far.';
comment on column baton.v_tasks.max_attempts is 'Attempts in all, lost workers not counted.';
comment on column baton.v_tasks.priority is 'Higher first.';
comment on column baton.v_tasks.created_at is 'When it was stored.';
comment on column baton.v_tasks.due_at is 'When it becomes ready, while it waits.';
comment on column baton.v_tasks.granted_at is 'When it was leased, while it is.';
comment on column baton.v_tasks.ended_at is 'When it ended.';
comment on column baton.v_tasks.worker is 'Worker that holds it, or that ended it.';
comment on column baton.v_tasks.input is 'Input: JSON, or bytes in base64.';
comment on column baton.v_tasks.output is 'Output: JSON, or bytes in base64.';
comment on column baton.v_tasks.failure is 'Why it failed.';
comment on column baton.v_tasks.run_id is 'The run that it belongs to.';
comment on column baton.v_tasks.node_id is 'The node of the run that it carries out.';
comment on column baton.v_tasks.labels is 'The client''s own words.';

create view baton.v_attempts as
select a.task_id, a.attempt, a.epoch, a.state, w.name as worker, a.session_id, a.granted_at, a.started_at, a.ended_at,
  a.failure ->> 'type' as failure_type, a.failure ->> 'message' as failure, a.retry_delay_ms
from baton.attempts a join baton.workers w on w.id = a.worker_id;
comment on view baton.v_attempts is 'What became of each lease.';
comment on column baton.v_attempts.task_id is 'Task.';
comment on column baton.v_attempts.attempt is 'Number of the attempt.';
comment on column baton.v_attempts.epoch is 'Epoch of its lease.';
comment on column baton.v_attempts.state is 'succeeded, failed, cancelled, lost (with its worker) or returned (at no cost).';
comment on column baton.v_attempts.worker is 'Worker that held the lease.';
comment on column baton.v_attempts.session_id is 'Session that held the lease.';
comment on column baton.v_attempts.granted_at is 'When the lease was granted.';
comment on column baton.v_attempts.started_at is 'When the work began; null: it did not, or was not reported.';
comment on column baton.v_attempts.ended_at is 'When the lease ended.';
comment on column baton.v_attempts.failure_type is 'Kind of failure, e.g. WORKER_CRASH.';
comment on column baton.v_attempts.failure is 'Why it failed.';
comment on column baton.v_attempts.retry_delay_ms is 'The delay chosen before the next attempt, ms.';

create view baton.v_workers as
select w.name, n.name as namespace,
  case when s.id is null or s.state = 'closed' then 'gone' when s.expires_at < clock_timestamp() then 'lost' else s.state end as state,
  s.renewed_at, (select count(*) from baton.leases l where l.session_id = w.session_id) as leases,
  w.session_id, w.version, w.service_url, w.registered_at, w.capabilities, s.metrics
from baton.workers w join baton.namespaces n on n.id = w.namespace_id left join baton.sessions s on s.id = w.session_id;
comment on view baton.v_workers is 'Workers and how they are.';
comment on column baton.v_workers.name is 'Stable over restarts.';
comment on column baton.v_workers.namespace is 'Namespace.';
comment on column baton.v_workers.state is 'active, draining, lost (its time is over) or gone (it left).';
comment on column baton.v_workers.renewed_at is 'Its last heartbeat.';
comment on column baton.v_workers.leases is 'Leases that it holds.';
comment on column baton.v_workers.session_id is 'Its newest session.';
comment on column baton.v_workers.version is 'Version of the worker''s software.';
comment on column baton.v_workers.service_url is 'Where its WorkerService answers; empty if nowhere.';
comment on column baton.v_workers.registered_at is 'When it last registered.';
comment on column baton.v_workers.capabilities is 'What the machine has and what it takes, as registered.';
comment on column baton.v_workers.metrics is 'Gauges of the last heartbeat.';

create view baton.v_queues as
select n.name as namespace, q.name as queue, q.paused,
  count(y.task_id) as ready, baton.id_time(min(y.task_id)) as oldest_ready
from baton.queues q join baton.namespaces n on n.id = q.namespace_id
left join baton.routes r on r.namespace_id = q.namespace_id and r.queue = q.name
left join baton.lanes l on l.route_id = r.id
left join baton.ready y on y.lane_id = l.id
group by n.name, q.name, q.paused;
comment on view baton.v_queues is 'Queues with what is ready in them. Counts: dear over millions of rows.';
comment on column baton.v_queues.namespace is 'Namespace.';
comment on column baton.v_queues.queue is 'Name.';
comment on column baton.v_queues.paused is 'Nothing is granted from it.';
comment on column baton.v_queues.ready is 'Tasks that may be leased now.';
comment on column baton.v_queues.oldest_ready is 'When the oldest of them was submitted.';

create view baton.v_runs as
select r.id, n.name as namespace, r.workflow_name as workflow, r.workflow_version as version, r.execution, r.state,
  r.nodes_succeeded, r.nodes_total, r.created_at, r.started_at, r.ended_at, r.failed_node_id, r.failure_message,
  baton.payload_text(r.input, r.input_encoding) as input, r.labels
from baton.runs r join baton.namespaces n on n.id = r.namespace_id;
comment on view baton.v_runs is 'Runs of workflows.';
comment on column baton.v_runs.id is 'Run id.';
comment on column baton.v_runs.namespace is 'Namespace.';
comment on column baton.v_runs.workflow is 'The workflow.';
comment on column baton.v_runs.version is 'The version that it is pinned to.';
comment on column baton.v_runs.execution is '1, and one more for each retry of the run.';
comment on column baton.v_runs.state is 'pending, running, succeeded, failed or cancelled.';
comment on column baton.v_runs.nodes_succeeded is 'Nodes that have succeeded.';
comment on column baton.v_runs.nodes_total is 'Nodes of its definition.';
comment on column baton.v_runs.created_at is 'When it was stored.';
comment on column baton.v_runs.started_at is 'When its first node became ready, in this execution.';
comment on column baton.v_runs.ended_at is 'When this execution ended.';
comment on column baton.v_runs.failed_node_id is 'The node that stopped it.';
comment on column baton.v_runs.failure_message is 'Which node failed and why, in words.';
comment on column baton.v_runs.input is 'Input: JSON, or bytes in base64.';
comment on column baton.v_runs.labels is 'The client''s own words.';

create view baton.v_run_nodes as
select rn.run_id, rn.ordinal, rn.node_id, rn.state, rn.task_id, rn.attempts, rn.execution, w.name as worker, rn.started_at, rn.ended_at,
  rn.output_hash, rn.failure ->> 'message' as failure
from baton.run_nodes rn left join baton.workers w on w.id = rn.worker_id;
comment on view baton.v_run_nodes is 'The nodes of each run.';
comment on column baton.v_run_nodes.run_id is 'Run.';
comment on column baton.v_run_nodes.ordinal is 'Place in an order in which the nodes could run.';
comment on column baton.v_run_nodes.node_id is 'Name in the definition.';
comment on column baton.v_run_nodes.state is 'pending, running, succeeded, failed, cancelled or skipped.';
comment on column baton.v_run_nodes.task_id is 'Its task in the execution named beside.';
comment on column baton.v_run_nodes.attempts is 'Attempts over all executions, the running one not counted.';
comment on column baton.v_run_nodes.execution is 'The execution of the run in which it last ran.';
comment on column baton.v_run_nodes.worker is 'Worker of its last attempt.';
comment on column baton.v_run_nodes.started_at is 'When its task was submitted.';
comment on column baton.v_run_nodes.ended_at is 'When its task ended.';
comment on column baton.v_run_nodes.output_hash is 'SHA-256 of its output, hex.';
comment on column baton.v_run_nodes.failure is 'Why it failed.';

-- A role that may look and not touch. It has no login of its own: `grant baton_readonly to you`. Where the migrating user may
-- not create roles, Baton works without it.
do $$
begin
  if not exists (select from pg_roles where rolname = 'baton_readonly') then
    create role baton_readonly nologin;
  end if;
exception when insufficient_privilege or duplicate_object or unique_violation then
  raise notice 'role baton_readonly was not created: %', sqlerrm;
end $$;
do $$
begin
  if exists (select from pg_roles where rolname = 'baton_readonly') then
    grant usage on schema baton to baton_readonly;
    grant select on all tables in schema baton to baton_readonly;
    alter default privileges in schema baton grant select on tables to baton_readonly;
  end if;
exception when insufficient_privilege then
  raise notice 'baton_readonly was not granted: %', sqlerrm;
end $$;

select baton.ensure_partitions();
