-- works with: 1
--
-- Resources and requirements of tasks, devices that are leased, and how queues give out their work. Only adds.

alter table baton.lanes add column needs jsonb;
comment on column baton.lanes.needs is 'Resources and requirements of its tasks: {resources, os, tools, selector}. Null: none. A tag of the lane stands for them, which no worker has: masters of a version that knows no needs leave the lane alone.';

alter table baton.queues add column strategy text
  check (strategy in ('fifo', 'priority', 'round_robin', 'load_balancing', 'adaptive', 'work_stealing'));
comment on column baton.queues.strategy is 'How its tasks are given to workers. Null: as the master''s setting says.';
alter table baton.queues add column placement text check (placement in ('first_fit', 'best_fit', 'worst_fit'));
comment on column baton.queues.placement is 'Which devices and workers that fit are taken. Null: as the master''s setting says.';

alter table baton.leases add column has_devices boolean not null default false;
comment on column baton.leases.has_devices is 'Rows of device_leases belong to it, which go when it goes.';

create table baton.device_leases (
  scope integer not null,
  uuid text not null,
  worker_id integer not null,
  task_id bigint not null,
  epoch integer not null,
  granted_at timestamptz not null default clock_timestamp(),
  primary key (scope, uuid)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table baton.device_leases is 'Devices that leases hold: each at most once. Written and removed in the statements that grant and end leases.';
comment on column baton.device_leases.scope is '0: the UUID is unique in the world, so that two workers of one machine cannot both have it. Else the worker: of simulated devices, whose UUIDs are made up.';
comment on column baton.device_leases.uuid is 'Device, as its driver names it.';
comment on column baton.device_leases.worker_id is 'Worker whose lease holds it.';
comment on column baton.device_leases.task_id is 'Task of the lease.';
comment on column baton.device_leases.epoch is 'Epoch of the lease.';
comment on column baton.device_leases.granted_at is 'When.';
create index device_leases_task on baton.device_leases (task_id);
