-- works with: 1
-- Artifacts: files that tasks produce, and files that tasks are handed. Their bytes are blobs.

create table baton.artifacts (
  task_id bigint not null,
  size_bytes bigint not null,
  created_at timestamptz not null,
  namespace_id integer not null,
  worker_id integer not null,
  epoch integer not null,
  sha256 bytea not null,
  name text not null,
  primary key (task_id, name)
);
comment on table baton.artifacts is 'Files that tasks have produced, written with their success. Kept as long as their task.';
comment on column baton.artifacts.task_id is 'The task that produced it.';
comment on column baton.artifacts.size_bytes is 'Size, bytes.';
comment on column baton.artifacts.created_at is 'When its task succeeded.';
comment on column baton.artifacts.namespace_id is 'Namespace, of the task and of the blob.';
comment on column baton.artifacts.worker_id is 'Worker that produced it.';
comment on column baton.artifacts.epoch is 'Epoch of the lease with which the task succeeded.';
comment on column baton.artifacts.sha256 is 'Of its bytes: the blob.';
comment on column baton.artifacts.name is 'As the task named it.';
create index artifacts_blob on baton.artifacts (namespace_id, sha256, task_id);

create table baton.artifact_inputs (
  task_id bigint not null,
  producer_task_id bigint,
  size_bytes bigint not null,
  namespace_id integer not null,
  sha256 bytea not null,
  name text not null,
  primary key (task_id, name)
);
comment on table baton.artifact_inputs is 'Files that tasks are handed, written before the task itself. Kept as long as their task.';
comment on column baton.artifact_inputs.task_id is 'The task that is handed it.';
comment on column baton.artifact_inputs.producer_task_id is 'The task that produced it; null: not known.';
comment on column baton.artifact_inputs.size_bytes is 'Size, bytes.';
comment on column baton.artifact_inputs.namespace_id is 'Namespace, of the task and of the blob.';
comment on column baton.artifact_inputs.sha256 is 'Of its bytes: the blob.';
comment on column baton.artifact_inputs.name is 'By which the task asks for it.';
create index artifact_inputs_blob on baton.artifact_inputs (namespace_id, sha256, task_id);

create view baton.v_artifacts as
select a.task_id, t.run_id, t.node_id, t.item, a.name, a.size_bytes, encode(a.sha256, 'hex') as sha256, w.name as worker, a.created_at
from baton.artifacts a join baton.tasks t on t.id = a.task_id join baton.workers w on w.id = a.worker_id;
comment on view baton.v_artifacts is 'Files that tasks have produced, without their bytes.';
comment on column baton.v_artifacts.task_id is 'The task that produced it.';
comment on column baton.v_artifacts.run_id is 'The run that the task belongs to.';
comment on column baton.v_artifacts.node_id is 'The node of the run.';
comment on column baton.v_artifacts.item is 'The item of the node, where it runs once for each item.';
comment on column baton.v_artifacts.name is 'As the task named it.';
comment on column baton.v_artifacts.size_bytes is 'Size, bytes.';
comment on column baton.v_artifacts.sha256 is 'Of its bytes, hex.';
comment on column baton.v_artifacts.worker is 'Worker that produced it.';
comment on column baton.v_artifacts.created_at is 'When its task succeeded.';

do $$
begin
  if exists (select from pg_roles where rolname = 'baton_readonly') then
    grant select on all tables in schema baton to baton_readonly;
  end if;
exception when insufficient_privilege then null;
end
$$;
