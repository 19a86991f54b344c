-- works with: 1
--
-- Runs of any size: fan-out over items, runs within runs, outputs of runs, results that are used again, and what durable functions
-- need of a run.
--
-- Only adds. A master of the version before reads and steps the runs that it understands (definitions without the new marker).

-- tasks -------------------------------------------------------------------------------------------------------------------

alter table baton.tasks add column item integer;
comment on column baton.tasks.item is 'The item of the node that it carries out, from 0; null: the node has no items.';

-- runs --------------------------------------------------------------------------------------------------------------------

alter table baton.runs
  add column form text not null default 'graph' constraint runs_form_check check (form in ('graph', 'function')),
  add column nodes_ended integer not null default 0,
  add column items_total integer not null default 0,
  add column current_nodes text[],
  add column output bytea,
  add column output_encoding smallint,
  add column output_blob bytea,
  add column failure jsonb,
  add column parent_run_id bigint,
  add column parent_node_id text,
  add column parent_item integer,
  add column driver_task_id bigint,
  add column wakes integer not null default 0,
  add column release text,
  add column waiting_for text[],
  drop constraint runs_state_check,
  add constraint runs_state_check check (state in ('pending', 'running', 'waiting', 'succeeded', 'failed', 'cancelled'));
comment on column baton.runs.state is 'pending, running, waiting (a function that waits, without a worker), succeeded, failed or cancelled.';
comment on column baton.runs.form is 'graph: nodes of a definition. function: a durable function, which says itself what it does next.';
comment on column baton.runs.nodes_ended is 'Nodes that have ended in any way, or were skipped.';
comment on column baton.runs.items_total is 'Items of its nodes, as far as they are known.';
comment on column baton.runs.current_nodes is 'Some of the nodes that run now.';
comment on column baton.runs.output is 'Output of the run, as bytes, once it has succeeded.';
comment on column baton.runs.output_encoding is 'As in tasks.';
comment on column baton.runs.output_blob is 'SHA-256 of the blob that holds the output; then output is null.';
comment on column baton.runs.failure is 'Why it failed: type, message, exception_type, stack, non_retryable.';
comment on column baton.runs.parent_run_id is 'The run that started it.';
comment on column baton.runs.parent_node_id is 'The node of that run that it carries out.';
comment on column baton.runs.parent_item is 'The item of that node, from 0.';
comment on column baton.runs.driver_task_id is 'Of a function: the task that carries it out.';
comment on column baton.runs.wakes is 'Of a function: how often there was something new for it. Guards against sleeping through it.';
comment on column baton.runs.release is 'Of a function: the version of the code that it is pinned to; null: any.';
comment on column baton.runs.waiting_for is 'Of a function: what it waits for, in words.';
drop index baton.runs_open;
create index runs_open on baton.runs (id) where state in ('pending', 'running', 'waiting');
create index runs_parent on baton.runs (parent_run_id) where parent_run_id is not null;
create index runs_output_blob on baton.runs (namespace_id, output_blob) where output_blob is not null;
-- Estimates look at the newest runs of a workflow that succeeded.
create index runs_succeeded on baton.runs (namespace_id, workflow_name, id) where state = 'succeeded';

-- their nodes and items ---------------------------------------------------------------------------------------------------

alter table baton.run_nodes
  add column revision integer not null default 0,
  add column items_total integer,
  add column items_started integer,
  add column items_ended integer,
  add column items_failed integer,
  add column child_run_id bigint,
  add column cached boolean not null default false,
  add column skip_reason text;
comment on column baton.run_nodes.revision is 'The revision of the run by which it changed last.';
comment on column baton.run_nodes.items_total is 'Items of a for_each or matrix, once they are known.';
comment on column baton.run_nodes.items_started is 'Items that were started so far, in this execution or before.';
comment on column baton.run_nodes.items_ended is 'Items that have ended in any way.';
comment on column baton.run_nodes.items_failed is 'Items that failed or were cancelled.';
comment on column baton.run_nodes.child_run_id is 'The run that carries it out, where that is a workflow.';
comment on column baton.run_nodes.cached is 'Its result is the one of an earlier task, used again.';
comment on column baton.run_nodes.skip_reason is 'Why it was skipped, in words.';
create index run_nodes_cached on baton.run_nodes (task_id) where cached;

create table baton.run_items (
  run_id bigint not null,
  task_id bigint,
  child_run_id bigint,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  ordinal integer not null,
  item integer not null,
  execution integer not null,
  attempts integer not null default 0,
  worker_id integer,
  cached boolean not null default false,
  state text not null check (state in ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
  output_hash text,
  failure jsonb,
  primary key (run_id, ordinal, item)
) with (fillfactor = 70);
comment on table baton.run_items is 'The items of nodes that run once for each item. One that was not started has no row.';
comment on column baton.run_items.run_id is 'Run.';
comment on column baton.run_items.task_id is 'Its task in the execution named beside.';
comment on column baton.run_items.child_run_id is 'The run that carries it out, where that is a workflow.';
comment on column baton.run_items.started_at is 'When its task was submitted.';
comment on column baton.run_items.ended_at is 'When its task ended.';
comment on column baton.run_items.ordinal is 'The node''s place in the run.';
comment on column baton.run_items.item is 'Place in the list of items, from 0.';
comment on column baton.run_items.execution is 'The execution of the run in which it last ran.';
comment on column baton.run_items.attempts is 'Attempts over all executions, the running one not counted.';
comment on column baton.run_items.worker_id is 'Worker of its last attempt.';
comment on column baton.run_items.cached is 'As in run_nodes.';
comment on column baton.run_items.state is 'pending: to be done again in this execution.';
comment on column baton.run_items.output_hash is 'SHA-256 of its output, hex.';
comment on column baton.run_items.failure is 'Why it failed.';
create index run_items_cached on baton.run_items (task_id) where cached;

alter table baton.advances add column child_run_id bigint;
comment on column baton.advances.child_run_id is 'The run that this run started and that ended, if that is the reason.';

-- results used again ------------------------------------------------------------------------------------------------------

create table baton.result_cache (
  task_id bigint not null,
  expires_at timestamptz not null,
  namespace_id integer not null references baton.namespaces,
  kind text not null,
  key_hash bytea not null,
  primary key (namespace_id, kind, key_hash)
);
comment on table baton.result_cache is 'Results that nodes with a cache use again: by namespace, kind and key the task that has it, from its start.';
comment on column baton.result_cache.task_id is 'The task that makes it; it counts once that has succeeded.';
comment on column baton.result_cache.expires_at is 'When the row may go.';
comment on column baton.result_cache.namespace_id is 'Namespace.';
comment on column baton.result_cache.kind is 'Task kind.';
comment on column baton.result_cache.key_hash is 'SHA-256 of the key, or of the whole input.';
create index result_cache_expiry on baton.result_cache (expires_at);
create index result_cache_task on baton.result_cache (task_id);

-- views -------------------------------------------------------------------------------------------------------------------

create or replace view baton.v_runs as
select r.id, n.name as namespace, r.workflow_name as workflow, r.workflow_version as version, r.execution, r.state,
  r.nodes_succeeded, r.nodes_total, r.created_at, r.started_at, r.ended_at, r.failed_node_id, r.failure_message,
  baton.payload_text(r.input, r.input_encoding) as input, r.labels,
  r.form, r.nodes_ended, r.items_total, r.current_nodes, baton.payload_text(r.output, r.output_encoding) as output,
  encode(r.output_blob, 'hex') as output_blob, r.parent_run_id, r.parent_node_id, r.waiting_for
from baton.runs r join baton.namespaces n on n.id = r.namespace_id;
comment on column baton.v_runs.form is 'graph or function.';
comment on column baton.v_runs.nodes_ended is 'Nodes that have ended in any way, or were skipped.';
comment on column baton.v_runs.items_total is 'Items of its nodes, as far as they are known.';
comment on column baton.v_runs.current_nodes is 'Some of the nodes that run now.';
comment on column baton.v_runs.output is 'Output: JSON, or bytes in base64.';
comment on column baton.v_runs.output_blob is 'SHA-256 of the blob that holds the output.';
comment on column baton.v_runs.parent_run_id is 'The run that started it.';
comment on column baton.v_runs.parent_node_id is 'The node of that run that it carries out.';
comment on column baton.v_runs.waiting_for is 'Of a function: what it waits for.';

create or replace view baton.v_run_nodes as
select rn.run_id, rn.ordinal, rn.node_id, rn.state, rn.task_id, rn.attempts, rn.execution, w.name as worker, rn.started_at, rn.ended_at,
  rn.output_hash, rn.failure ->> 'message' as failure,
  rn.items_total, rn.items_ended, rn.items_failed, rn.child_run_id, rn.cached, rn.skip_reason
from baton.run_nodes rn left join baton.workers w on w.id = rn.worker_id;
comment on column baton.v_run_nodes.items_total is 'Items of a for_each or matrix, once they are known.';
comment on column baton.v_run_nodes.items_ended is 'Items that have ended in any way.';
comment on column baton.v_run_nodes.items_failed is 'Items that failed or were cancelled.';
comment on column baton.v_run_nodes.child_run_id is 'The run that carries it out, where that is a workflow.';
comment on column baton.v_run_nodes.cached is 'Its result is the one of an earlier task, used again.';
comment on column baton.v_run_nodes.skip_reason is 'Why it was skipped, in words.';

create view baton.v_run_items as
select ri.run_id, rn.node_id, ri.item, ri.state, ri.task_id, ri.child_run_id, ri.attempts, ri.execution, w.name as worker,
  ri.started_at, ri.ended_at, ri.output_hash, ri.cached, ri.failure ->> 'message' as failure
from baton.run_items ri join baton.run_nodes rn on rn.run_id = ri.run_id and rn.ordinal = ri.ordinal
left join baton.workers w on w.id = ri.worker_id;
comment on view baton.v_run_items is 'The items of nodes that run once for each item.';
comment on column baton.v_run_items.run_id is 'Run.';
comment on column baton.v_run_items.node_id is 'The node.';
comment on column baton.v_run_items.item is 'Place in the list of items, from 0.';
comment on column baton.v_run_items.state is 'pending, running, succeeded, failed or cancelled.';
comment on column baton.v_run_items.task_id is 'Its task in the execution named beside.';
comment on column baton.v_run_items.child_run_id is 'The run that carries it out, where that is a workflow.';
comment on column baton.v_run_items.attempts is 'Attempts over all executions, the running one not counted.';
comment on column baton.v_run_items.execution is 'The execution of the run in which it last ran.';
comment on column baton.v_run_items.worker is 'Worker of its last attempt.';
comment on column baton.v_run_items.started_at is 'When its task was submitted.';
comment on column baton.v_run_items.ended_at is 'When its task ended.';
comment on column baton.v_run_items.output_hash is 'SHA-256 of its output, hex.';
comment on column baton.v_run_items.cached is 'Its result is the one of an earlier task, used again.';
comment on column baton.v_run_items.failure is 'Why it failed, in words.';

do $$
begin
  if exists (select from pg_roles where rolname = 'baton_readonly') then
    grant select on all tables in schema baton to baton_readonly;
  end if;
exception when insufficient_privilege then
  raise notice 'baton_readonly was not granted: %', sqlerrm;
end $$;
