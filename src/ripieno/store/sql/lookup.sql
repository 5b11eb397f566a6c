-- name: tasks_by_id
select t.id, t.task_no, t.session_no, s.status
from tasks t join states s on s.task_no = t.task_no
where t.id = any($1::text[])

-- name: tasks_of_sessions
select t.id, t.task_no, t.session_no
from tasks t join states s on s.task_no = t.task_no
where t.session_no = any($1::bigint[]) and ($2::smallint[] is null or s.status = any($2::smallint[]))
order by t.task_no

-- name: count_of_tasks
select status, count(*) as tasks from states where task_no = any($1::bigint[]) group by status

-- name: sessions_by_id
select id, session_no from sessions where id = any($1::text[])

-- name: results_by_key
select key, status from results where session_no = $1 and key = any($2::text[])

-- name: finished_results
-- Those of the keys that are final, or that nobody has announced (status null or 0).
-- Bytes come along up to $3.
select asked.key, coalesce(r.status, 0) as status, b.size,
       case when b.size <= $3 then b.data end as data, b.object, b.sha256
from unnest($2::text[]) as asked (key)
left join results r on r.session_no = $1 and r.key = asked.key
left join blobs b on b.blob_no = r.blob_no
where r.status is distinct from 1

-- name: results
-- In the order of the request, one row each: with the owner, and with the bytes where they are inline.
select r.status, asked.key, r.owner_no, r.reason, t.id as owner_id, b.size, b.data, b.object, b.sha256
from unnest($1::bigint[], $2::text[]) with ordinality as asked (session_no, key, place)
left join results r on r.session_no = asked.session_no and r.key = asked.key
left join tasks t on t.task_no = r.owner_no
left join blobs b on b.blob_no = r.blob_no
order by asked.place

-- name: failed_attempts
-- Oldest first; the latest attempt only where the task is final or being cancelled (its
-- results are aborted from then on).
select e.retry, e.status, e.detail, t.id as task_id from earlier_attempts e join tasks t on t.task_no = e.task_no
where e.task_no = $1
union all
select s.retry, s.status, s.detail, t.id from states s join tasks t on t.task_no = s.task_no
where s.task_no = $1 and (s.status >= 10 or s.status = 4)
order by 1
