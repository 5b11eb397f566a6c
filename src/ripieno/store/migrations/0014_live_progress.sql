-- How far attempts that run have come, of sessions that somebody follows: written by the replica that their agent is
-- connected to, read by whichever replica the follower asks. Not logged: a crash forgets it, and it comes again.
-- A row is of use while its claim holds the task; it is dropped some minutes after it was last written.
create unlogged table live_progress (
    claim bigint primary key,
    session_no bigint not null,
    task_no bigint not null,
    fraction double precision not null,
    text text not null,
    written_at timestamptz not null default now()
);
create index live_progress_by_session on live_progress (session_no);
-- Written again and again: soon vacuumed, and each time as a whole.
alter table live_progress set (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
