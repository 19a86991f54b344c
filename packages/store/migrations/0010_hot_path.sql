-- works with: 1
--
-- What the drain pays for and nobody reads. Both are of the catalog alone, and a moment's lock each:
-- leases first, as the statements of running masters have it.
--
-- Numbers of tasks hardly get smaller by compression, and it took 1 us a task, of submit, claim and completion each. They lie beside the
-- table as they are: 8 bytes an event. New partitions take this over from the table.
--
-- A lease carries what its end has to write down of its lane and session, so that the completion looks up neither. A lease granted by a
-- master of the version before lacks them, and is completed as before. (Names that no statement of that version uses: it
-- joins leases with lanes and sessions, and a second worker_id would be one too many.)

alter table baton.leases
  add column lane_namespace_id integer, add column lane_route_id integer, add column session_worker_id integer;
comment on column baton.leases.lane_namespace_id is 'Namespace; null: that of the lane.';
comment on column baton.leases.lane_route_id is 'Queue and kind; null: those of the lane.';
comment on column baton.leases.session_worker_id is 'The worker; null: that of the session.';

do $$
declare part regclass;
begin
  for part in select 'baton.events'::regclass union all select inhrelid::regclass from pg_inherits where inhparent = 'baton.events'::regclass loop
    execute format('alter table %s alter column task_ids set storage external', part);
  end loop;
end $$;
