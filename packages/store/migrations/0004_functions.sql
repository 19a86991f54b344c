-- works with: 1
--
-- Durable functions: the journal of each run, and the signals that runs are sent. Only adds.

create table baton.journal (
  run_id bigint not null references baton.runs on delete cascade,
  number integer not null check (number > 0),
  position integer check (position > 0),
  after_position integer not null default 0,
  at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  due_at timestamptz,
  ref_id bigint,
  attempts integer not null default 0,
  encoding smallint,
  kind text not null check (kind in ('step', 'sleep', 'signal', 'task', 'child')),
  name text not null,
  output bytea,
  output_blob bytea,
  failure jsonb,
  primary key (run_id, number),
  check ((position is null) = (ended_at is null))
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table baton.journal is 'What durable functions have done and wait for. Only who holds the lease of a run''s task adds to it.';
comment on column baton.journal.run_id is 'Run.';
comment on column baton.journal.number is 'Order of the commands in the code, from 1.';
comment on column baton.journal.position is 'Order in which they were resolved; a replay resolves them in this order. Null: not yet.';
comment on column baton.journal.after_position is 'The newest position that the code had seen when it gave the command.';
comment on column baton.journal.at is 'When it was written first.';
comment on column baton.journal.ended_at is 'When it was resolved.';
comment on column baton.journal.due_at is 'When a sleep ends, a wait for a signal is given up, or a step is tried again.';
comment on column baton.journal.ref_id is 'The task or the run that the command made.';
comment on column baton.journal.attempts is 'How often a step was tried.';
comment on column baton.journal.encoding is 'As input_encoding of tasks; of the output.';
comment on column baton.journal.kind is 'step, sleep, signal, task or child (a run of another workflow).';
comment on column baton.journal.name is 'The author''s name for it.';
comment on column baton.journal.output is 'What it gave, as bytes.';
comment on column baton.journal.output_blob is 'SHA-256 of the blob that a task returned; then output is null.';
comment on column baton.journal.failure is 'Why it did not succeed; of a step that is tried again, of its last try.';
-- A replay is in this order, and no two outcomes have one place in it.
create unique index journal_position on baton.journal (run_id, position) where position is not null;
create index journal_open on baton.journal (run_id, number) where position is null;

create table baton.run_signals (
  id bigint primary key,
  run_id bigint not null references baton.runs on delete cascade,
  at timestamptz not null default clock_timestamp(),
  taken_by integer,
  encoding smallint not null,
  name text not null,
  key text,
  payload bytea,
  principal text
);
comment on table baton.run_signals is 'Signals to runs, kept until they are waited for. Taken in the order of their ids, each once.';
comment on column baton.run_signals.id is 'Order.';
comment on column baton.run_signals.run_id is 'Run.';
comment on column baton.run_signals.at is 'When it was stored.';
comment on column baton.run_signals.taken_by is 'Number of the journal entry that took it; null: nobody yet.';
comment on column baton.run_signals.encoding is 'As input_encoding of tasks.';
comment on column baton.run_signals.name is 'What it is waited for by.';
comment on column baton.run_signals.key is 'The client''s key: the same for the same run is the same signal.';
comment on column baton.run_signals.payload is 'As bytes; null: none.';
comment on column baton.run_signals.principal is 'Who sent it; null while tokens are not in use.';
create unique index run_signals_key on baton.run_signals (run_id, key) where key is not null;
create index run_signals_open on baton.run_signals (run_id, name, id) where taken_by is null;

do $$
begin
  if exists (select from pg_roles where rolname = 'baton_readonly') then
    grant select on all tables in schema baton to baton_readonly;
  end if;
exception when insufficient_privilege then null;
end
$$;
