-- What attempts that run have printed so far, of those that somebody follows: written by the replica that their agent
-- is connected to, read by whichever replica the follower asks. Not logged: a crash forgets it, and it comes again.
-- A row is of use while its claim holds a task. The end of the attempt, with all that it printed, is in
-- attempt_outputs; rows are dropped some minutes after they were last written.
create unlogged table live_outputs (
    claim bigint primary key,
    stdout bytea not null,
    stderr bytea not null,
    stdout_left_out bigint not null,
    stderr_left_out bigint not null,
    written_at timestamptz not null default now()
);
-- Written again and again: soon vacuumed, and each time as a whole.
alter table live_outputs set (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
