-- works with: 1
--
-- A blob that the journal of a run refers to is kept, also when the task that returned it has left the history. Only adds.

create index journal_output_blob on baton.journal (output_blob) where output_blob is not null;
