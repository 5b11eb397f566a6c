-- name: unfinished_of_session
-- Three small indexes instead of all tasks of the session: what waits, what is
-- claimable, what is held. Finished tasks, however many, are not read.
select task_no from states where session_no = $1 and status = 1 and unmet > 0
union all
select task_no from states where session_no = $1 and status = 1 and unmet = 0
union all
select task_no from states where session_no = $1 and claim is not null
order by 1

-- name: lock_unfinished
-- The caller sorts by task number and holds the gates exclusively. Claims and releases hold
-- no gate, so this waits for those under way.
select s.task_no, s.status as before
from unnest($1::bigint[]) as asked (task_no)
join states s on s.task_no = asked.task_no
where s.status in (1, 2, 3)
for no key update of s

-- name: cancel_tasks
-- Of tasks that are locked. A statement of its own, with a snapshot taken after the wait:
-- PostgreSQL checks constraints on the version that the snapshot sees, before it finds that
-- there is a later one.
update states s
set status = case s.status when 1 then 13 else 4 end,
    detail = 'cancelled',
    ended_at = case s.status when 1 then now() end
from unnest($1::bigint[]) as locked (task_no)
where s.task_no = locked.task_no
returning s.task_no, s.session_no, s.status, s.claim, s.agent_no
