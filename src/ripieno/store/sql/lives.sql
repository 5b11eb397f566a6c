-- Steps in the life of sessions (store.sessions.lives, store.life). Whoever changes a status or a flag holds the session's gate exclusively.

-- name: standing
-- A session as the next step of its life finds it. Its unfinished tasks are the sum of its counts; sessions_pkey.
select s.id, s.status,
       (select coalesce(sum(c.delta), 0)::bigint from session_counts c
        where c.session_no = s.session_no and c.status between 1 and 9) as unfinished,
       (select p.sweep from pending_sweeps p where p.session_no = s.session_no) as sweep
from sessions s where s.session_no = $1

-- name: deleted
-- The id of a session that was deleted within the last year; deleted_sessions_pkey.
select id from deleted_sessions where session_no = $1

-- name: deleted_by_id
-- The number of a session that was deleted within the last year; deleted_sessions_by_id.
select session_no from deleted_sessions where id = $1 and deleted_at > now() - interval '1 year'

-- name: set_status
with changed as (
    update sessions
    set status = $2,
        cancelled_at = case $2::smallint when 10 then now() else cancelled_at end,
        closed_at = case $2::smallint when 11 then now() else closed_at end,
        purged_at = case $2::smallint when 12 then now() else purged_at end
    where session_no = $1
    returning session_no, status
)
insert into changes (session_no, kind, status) select session_no, 1, status from changed

-- name: stop_submission
update sessions
set client_submission = client_submission and not $2::boolean, worker_submission = worker_submission and not $3::boolean
where session_no = $1

-- name: begin_sweep
-- Replaces the sweep of the step before, which ends at its next transaction. Returns the newest number of a task.
insert into pending_sweeps as p (session_no, sweep, kind) values ($1, $2, $3)
on conflict (session_no) do update set sweep = excluded.sweep, kind = excluded.kind, steps = 0
returning (select last_value from task_numbers)

-- name: go_on
-- Whether the sweep is still the session's.
update pending_sweeps set steps = steps + 1 where session_no = $1 and sweep = $2 returning session_no

-- name: end_sweep
delete from pending_sweeps where session_no = $1 and sweep = $2 returning session_no

-- name: drop_sweep
delete from pending_sweeps where session_no = $1

-- name: pending_sweeps
select session_no, sweep, kind, steps from pending_sweeps

-- name: held_to_park
-- All held tasks of a session, also those that stand where they should: one that is being released just now may have seen
-- the session as it was before, and is waited for. Small: states_held has what all agents hold.
select task_no from states
where session_no = $1 and claim is not null and status in (2, 3)
order by task_no

-- name: waiting_to_park
-- Up to $4 waiting tasks of a session with numbers above $2 and up to $3, and those among them that are not parked ($5),
-- or are. Rows are compared as such because only states_unclaimed can do that (as in cancel.unfinished_tasks).
select count(*) as looked_at, max(page.task_no) as last_no,
       coalesce(array_agg(page.task_no order by page.task_no) filter (where (page.partition = ' ') <> $5), '{}') as numbers
from (
    select task_no, partition from states
    where status = 1 and (session_no, task_no) > ($1, $2) and (session_no, task_no) <= ($1, $3)
    order by session_no, task_no limit $4
) as page

-- name: park_numbered
select park_numbered($1::bigint[], $2::boolean) as partitions

-- name: purge_page
select purge_page($1::bigint, $2::text, $3::integer) as last_key

-- name: purge_outputs
-- What attempts have printed, of the same tasks as the purge_payloads that follows.
delete from attempt_outputs o
using (
    select t.task_no from tasks t
    where (t.session_no, t.task_no) > ($1::bigint, $2::bigint)
      and (t.session_no, t.task_no) <= ($1::bigint, 9223372036854775807)
    order by t.session_no, t.task_no limit $3::integer
) as page
where o.task_no = page.task_no

-- name: purge_payloads
select purge_payloads($1::bigint, $2::bigint, $3::integer) as last_no

-- name: drop_pending
-- No work in its graph is left to a session that is purged or deleted.
with cuts as (
    delete from pending_cuts where session_no = $1
), promotions as (
    delete from pending_promotions where session_no = $1
), revivals as (
    delete from pending_revivals where session_no = $1
)
delete from pending_cancellations where session_no = $1

-- name: delete_session
-- The session goes, and its id stays behind.
with gone as (
    delete from sessions where session_no = $1 returning session_no, id
), logged as (
    insert into changes (session_no, kind, status) select session_no, 1, 13 from gone
)
insert into deleted_sessions (session_no, id) select session_no, id from gone

-- name: delete_rows
select delete_rows($1::bigint, $2::integer) as rows

-- name: delete_options
delete from options where session_no = $1

-- name: delete_counts
delete from session_counts where session_no = $1

-- name: forget_deleted
-- Ids of sessions that were deleted more than a year ago may come back.
delete from deleted_sessions d
where d.deleted_at < now() - interval '1 year'
  and not exists (select from pending_sweeps p where p.session_no = d.session_no)

-- name: note_ended
-- Notes that sessions have ended: closed, cancelled or purged ones without unfinished tasks. Locks the rows that it
-- changes, $1 at most, and waits for none; sessions_ended, session_counts_by_session.
with ended as (
    select s.session_no from sessions s
    where s.status >= 10 and s.ended_at is null
      and (select coalesce(sum(c.delta), 0) from session_counts c
           where c.session_no = s.session_no and c.status between 1 and 9) = 0
    limit $1 for no key update skip locked
)
update sessions s set ended_at = now() from ended where s.session_no = ended.session_no
returning s.session_no

-- name: ended_before
-- The sessions in one of the statuses $1 that ended more than $2 seconds ago, the earliest first; sessions_ended.
select session_no, id from sessions
where status >= 10 and status = any($1::smallint[]) and ended_at < now() - $2 * interval '1 second'
order by ended_at limit $3

-- name: not_ended
-- A closed session in which failed tasks were retried since it ended.
update sessions set ended_at = null where session_no = $1

-- name: try_retention
-- Whether this session of the database is the one that looks after retention: one replica at a time.
select pg_try_advisory_lock(hashtext('ripieno retention'), 0) as ours

-- name: end_retention
select pg_advisory_unlock(hashtext('ripieno retention'), 0)
