-- works with: 1
--
-- The next task of a device is granted while the one before it runs, and waits at its worker: a device has two places, of one worker's
-- leases. Masters of the version before write the first, and find a device leased when either is taken.

alter table baton.device_leases add column place smallint not null default 0 check (place in (0, 1));
comment on column baton.device_leases.place is '0 or 1: of two leases of one device, both of one worker, the one that was granted first runs, and the other waits for its end.';
alter table baton.device_leases drop constraint device_leases_pkey;
alter table baton.device_leases add primary key (scope, uuid, place);
comment on table baton.device_leases is 'Devices that leases hold: each once, and once more for the lease that waits at the same worker. Written and removed in the statements that grant and end leases.';
