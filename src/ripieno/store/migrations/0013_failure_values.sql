-- What a worker attached to the failure of an attempt, for programs: an exception, say, in a format of its own.
--
-- In the row of what the attempt printed, so that it is written by the same statement, and deleted with it. A row is
-- there for each attempt that printed something or has such a value. At most 64 KiB (ripieno.domain.outcomes).
alter table attempt_outputs add column failure_value bytea;
-- Not compressed, for the same reason as blobs.
alter table attempt_outputs alter column failure_value set storage external;
