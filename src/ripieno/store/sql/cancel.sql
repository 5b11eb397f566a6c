-- name: begin_cancelling
-- Of a session that was marked as cancelled in this transaction. Tasks that its cuts would fail are cancelled instead,
-- none is retried any more, and those that are parked are cancelled as they are.
with dropped as (
    delete from pending_cuts where session_no = $1
), not_revived as (
    delete from pending_revivals where session_no = $1
), ended as (
    delete from pending_sweeps where session_no = $1
)
insert into pending_cancellations (session_no, cancellation, whole_session) values ($1, $2, true)
on conflict (session_no, cancellation) do nothing

-- name: begin_cancellation
-- Notes the cancellation of some tasks of these sessions.
insert into pending_cancellations (session_no, cancellation, whole_session)
select session_no, $2, false from unnest($1::bigint[]) as session_no

-- name: go_on
update pending_cancellations set steps = steps + 1 where session_no = any($1::bigint[]) and cancellation = $2

-- name: end_cancellation
delete from pending_cancellations where session_no = any($1::bigint[]) and cancellation = $2

-- name: unfinished_tasks
-- Some unfinished tasks of a session with numbers above $2 and up to $3, as many as have $5 results together, but
-- at least one. Waiting tasks come first, by number; then, in one look from the first number on (so that no task
-- that is being claimed or given back meanwhile is missed), the remaining waiting tasks and those held by agents.
-- Small indexes carry it: finished tasks, however many, are not read, nor waiting tasks of other sessions.
-- Rows are compared as such because only the right index can do that: from "session_no = $1" the planner of a
-- server with outdated statistics goes through the primary key.
with waiting as materialized (
    select task_no, outputs from states
    where status = 1 and (session_no, task_no) > ($1, $2) and (session_no, task_no) <= ($1, $3)
      and 1 = any($4::smallint[])
    order by session_no, task_no limit $5
), rest as materialized (
    select task_no, outputs from states
    where status = 1 and (session_no, task_no) >= ($1, 0) and (session_no, task_no) <= ($1, least($2, $3))
      and 1 = any($4::smallint[]) and not exists (select from waiting)
    union all
    select task_no, outputs from states
    where session_no = $1 and claim is not null and status = any($4::smallint[]) and task_no + 0 <= $3
      and not exists (select from waiting)
    limit $5
), weighed as (
    select task_no, sum(1 + coalesce(outputs, 1)) over (order by task_no) - coalesce(outputs, 1) as weight
    from (select * from waiting union all select * from rest) as found
)
select coalesce(array_agg(task_no), '{}') as numbers, (select count(*) from waiting) > 0 as waiting,
       (select count(*) >= $5 or max(weight) > $5 from weighed) as more
from weighed where weight <= greatest($5, 1)

-- name: unfinished_of
select task_no, session_no, 1 + coalesce(outputs, 1) as weight
from states where task_no = any($1::bigint[]) and status = any($2::smallint[])

-- name: unfinished_of_sessions
-- Unfinished tasks of several sessions, in one look; of waiting tasks, $4 of each session at most.
select asked.session_no, waiting.task_no, waiting.weight
from unnest($1::bigint[]) as asked (session_no)
cross join lateral (
    select task_no, 1 + coalesce(outputs, 1) as weight from states
    where status = 1 and (session_no, task_no) >= (asked.session_no, 0) and (session_no, task_no) <= (asked.session_no, $2)
      and 1 = any($3::smallint[])
    order by session_no, task_no limit $4
) as waiting
union all
select session_no, task_no, 1 + coalesce(outputs, 1) from states
where claim is not null and session_no = any($1::bigint[]) and status = any($3::smallint[]) and task_no + 0 <= $2

-- name: cancel_numbered
select * from cancel_numbered($1::bigint[], $2::smallint[], $3::boolean)

-- name: newest_task
select last_value as task_no from task_numbers

-- name: pending_cancellations
select session_no, cancellation, whole_session, steps from pending_cancellations

-- name: abort_unowned
select * from abort_unowned($1::bigint, $2::integer)
