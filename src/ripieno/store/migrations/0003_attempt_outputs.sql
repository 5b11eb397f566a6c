-- The output of attempts: the end of what a worker wrote to standard output and standard error while it ran one.
--
-- A row only where something was printed, written by the transaction that ends the attempt. Bytes, which need not be
-- text. They are no data of the session: neither counted in its stored bytes (status -1 of session_counts), nor
-- bounded by its quota, but by the agent's setting for each attempt.
create table attempt_outputs (
    task_no bigint not null,
    retry integer not null,
    stdout bytea not null,
    stderr bytea not null,
    stdout_left_out bigint not null,
    stderr_left_out bigint not null,
    primary key (task_no, retry)
);
-- Not compressed, for the same reason as blobs.
alter table attempt_outputs alter column stdout set storage external;
alter table attempt_outputs alter column stderr set storage external;
-- It only grows, until whole sessions are deleted.
alter table attempt_outputs set (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000);
alter table attempt_outputs set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
