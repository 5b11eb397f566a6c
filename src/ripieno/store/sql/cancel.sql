-- name: unfinished_of_session
-- Three small indexes instead of all tasks of the session: what waits, what is
-- claimable, what is held. Finished tasks, however many, are not read.
select task_no from states where session_no = $1 and status = 1 and unmet > 0
union all
select task_no from states where session_no = $1 and status = 1 and unmet = 0
union all
select task_no from states where session_no = $1 and claim is not null
order by 1

-- name: cancel_tasks
-- The caller sorts by task number and holds the gates exclusively.
with locked as materialized (
    select s.task_no, s.session_no, s.status
    from unnest($1::bigint[]) as asked (task_no)
    join states s on s.task_no = asked.task_no
    where s.status in (1, 2, 3)
    for no key update of s
)
update states s
set status = case locked.status when 1 then 13 else 4 end,
    detail = 'cancelled',
    ended_at = case locked.status when 1 then now() end
from locked
where s.task_no = locked.task_no
returning s.task_no, s.session_no, locked.status as before, s.status, s.claim, s.agent_no

-- name: not_yet_stopped
-- Cancelled attempts that nobody has confirmed as begun: they might still begin.
select count(*) as tasks
from unnest($1::bigint[], $2::bigint[]) as asked (task_no, claim)
join states s on s.task_no = asked.task_no and s.claim = asked.claim
where s.status = 4 and s.started_at is null
