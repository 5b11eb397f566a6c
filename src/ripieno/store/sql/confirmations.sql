-- name: unconfirmed_in_sessions
-- Attempts of these sessions that are being cancelled and may still begin: their agents have not said that they
-- ended, nor that they run and are being interrupted.
select count(*) as attempts from states
where session_no = any($1::bigint[]) and status = 4 and started_at is null

-- name: unconfirmed_of_tasks
select count(*) as attempts
from unnest($1::bigint[]) as asked (task_no)
join states s on s.task_no = asked.task_no
where coalesce(s.status, 0) = 4 and s.started_at is null

-- name: cancelling_at
select agent_no, task_no, session_no, claim from states
where agent_no = any($1::bigint[]) and status = 4
