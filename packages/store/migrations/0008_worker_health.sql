-- works with: 1
--
-- How workers' machines feel: the newest report of each, and one sample a minute for charts. Only adds.

create table baton.worker_health (
  worker_id integer primary key references baton.workers on delete cascade,
  session_id bigint not null,
  at timestamptz not null,
  healthy boolean not null,
  report jsonb not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table baton.worker_health is 'The newest report of each worker on its machine.';
comment on column baton.worker_health.worker_id is 'Worker.';
comment on column baton.worker_health.session_id is 'Session that told it.';
comment on column baton.worker_health.at is 'When it was judged.';
comment on column baton.worker_health.healthy is 'There was no issue.';
comment on column baton.worker_health.report is 'MachineHealth of the contract, as JSON: issues, closed gates, loads, devices.';

create table baton.health_minutes (
  worker_id integer not null references baton.workers on delete cascade,
  minute timestamptz not null,
  healthy boolean not null,
  sample jsonb not null,
  primary key (worker_id, minute)
) with (fillfactor = 80);
comment on table baton.health_minutes is 'Samples of workers'' machines, one a minute, for charts. Kept for a day.';
comment on column baton.health_minutes.worker_id is 'Worker.';
comment on column baton.health_minutes.minute is 'Begin of the minute.';
comment on column baton.health_minutes.healthy is 'All reports of the minute were without an issue.';
comment on column baton.health_minutes.sample is 'The last values of the minute; issues are the codes of all of it.';
create index health_minutes_minute on baton.health_minutes (minute);

create or replace view baton.v_workers as
select w.name, n.name as namespace,
  case when s.id is null or s.state = 'closed' then 'gone' when s.expires_at < clock_timestamp() then 'lost' else s.state end as state,
  s.renewed_at, (select count(*) from baton.leases l where l.session_id = w.session_id) as leases,
  w.session_id, w.version, w.service_url, w.registered_at, w.capabilities, s.metrics,
  h.healthy, h.report -> 'issues' as issues, h.report -> 'gates' as gates, h.at as health_at
from baton.workers w join baton.namespaces n on n.id = w.namespace_id left join baton.sessions s on s.id = w.session_id
left join baton.worker_health h on h.worker_id = w.id;
comment on column baton.v_workers.healthy is 'Its machine has no issue; null: it has not told.';
comment on column baton.v_workers.issues is 'What is wrong with its machine.';
comment on column baton.v_workers.gates is 'Closed gates: why it takes no new work, or none on a device.';
comment on column baton.v_workers.health_at is 'When its machine was judged.';

do $$
begin
  if exists (select from pg_roles where rolname = 'baton_readonly') then
    grant select on all tables in schema baton to baton_readonly;
  end if;
exception when insufficient_privilege then null;
end
$$;
