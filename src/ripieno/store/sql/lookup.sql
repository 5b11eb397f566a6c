-- name: tasks_by_id
select t.id, t.task_no, t.session_no, s.status
from tasks t join states s on s.task_no = t.task_no
where t.id = any($1::text[])

-- name: stopped_tasks
-- Tasks that are not there any more count as cancelled: they were, before their session was deleted.
select asked.task_no, coalesce(s.status, 13::smallint) as status
from unnest($1::bigint[]) as asked (task_no) left join states s on s.task_no = asked.task_no
where s.status is null or s.status >= 10 or s.status = 4

-- name: count_of_tasks
select status, count(*) as tasks from states where task_no = any($1::bigint[]) group by status

-- name: sessions_by_id
select id, session_no from sessions where id = any($1::text[])

-- name: results_by_key
select key, status from results where session_no = $1 and key = any($2::text[])

-- name: finished_results
-- Those of the keys that are final, or that no task has announced (status null or 0), in the
-- order of the request. Bytes are returned up to $3 each and $4 in all; beyond that they are not
-- read from the disk, since the sum is computed from sizes alone.
select found.key, found.status, found.size, found.object, found.sha256,
       case when found.small and found.total <= $4 then found.data end as data,
       found.small and found.total > $4 as unread
from (
    select asked.key, asked.place, coalesce(r.status, 0) as status, b.size, b.object, b.sha256, b.data,
           b.data is not null and b.size <= $3 as small,
           sum(case when b.data is not null and b.size <= $3 then b.size else 0 end) over (order by asked.place) as total
    from unnest($2::text[]) with ordinality as asked (key, place)
    left join results r on r.session_no = $1 and r.key = asked.key
    left join blobs b on b.blob_no = r.blob_no
    where r.status is distinct from 1
) as found
order by found.place

-- name: results
-- One row for each key, in the order of the request, with the owner, and with the bytes if they are inline.
select r.status, asked.key, r.owner_no, o.status as owner_status, t.id as owner_id, b.size, b.data, b.object, b.sha256
from unnest($1::bigint[], $2::text[]) with ordinality as asked (session_no, key, place)
left join results r on r.session_no = asked.session_no and r.key = asked.key
left join tasks t on t.task_no = r.owner_no
left join states o on o.task_no = r.owner_no and r.status = 11
left join blobs b on b.blob_no = r.blob_no
order by asked.place

-- name: results_within
-- The rows of "results", with bytes up to $3 in all (but always those of the first); those beyond are
-- marked as left_out, and are not read from the disk, since the sum is computed from sizes alone.
select found.status, found.key, found.owner_no, found.owner_status, found.owner_id, found.size, found.object, found.sha256,
       case when not found.left_out then found.data end as data, found.left_out
from (
    select r.status, asked.key, asked.place, r.owner_no, null::smallint as owner_status, t.id as owner_id,
           b.size, b.object, b.sha256, b.data,
           asked.place > 1 and b.data is not null
               and sum(case when b.data is null then 0 else b.size end) over (order by asked.place) > $3 as left_out
    from unnest($1::bigint[], $2::text[]) with ordinality as asked (session_no, key, place)
    left join results r on r.session_no = asked.session_no and r.key = asked.key
    left join tasks t on t.task_no = r.owner_no
    left join blobs b on b.blob_no = r.blob_no
) as found
order by found.place

-- name: failed_attempts
-- Failed attempts of each task, oldest first; the latest attempt only if the task is final or being cancelled (its
-- results are aborted from then on). The reasons of one task share $2 characters, so that a task
-- with many attempts fits into one message; each has 200 at least.
select task_no, status, task_id, failed_input,
       left(detail, greatest($2::integer / count(*) over (partition by task_no), 200)::integer) as detail
from (
    select e.task_no, e.retry, e.status, e.detail, t.id as task_id, null::integer as failed_input
    from unnest($1::bigint[]) as asked (task_no)
    join earlier_attempts e on e.task_no = asked.task_no
    join tasks t on t.task_no = asked.task_no
    union all
    select s.task_no, s.retry, s.status, s.detail, t.id, s.failed_input
    from unnest($1::bigint[]) as asked (task_no)
    join states s on s.task_no = asked.task_no
    join tasks t on t.task_no = asked.task_no
    where s.status >= 10 or s.status = 4
) as failed
order by task_no, retry

-- name: failure_of_attempt
-- One attempt of a task, or the latest that failed: how it failed, where, and what its worker attached to the failure.
-- All but the first two columns are null if it has not failed. Locks nothing.
select s.retry as latest, s.status as task_status, f.retry, f.status, f.detail, f.worker, f.started_at, f.ended_at,
       f.failed_input, a.name as agent, o.failure_value,
       (t.data_dependencies || t.payload_key)[f.failed_input] as input, root.id as root_id
from states s
left join lateral (
    select e.retry, e.status, e.detail, e.worker, e.agent_no, e.started_at, e.ended_at,
           null::integer as failed_input, null::bigint as root_no
    from earlier_attempts e where e.task_no = s.task_no and ($2::integer is null or e.retry = $2::integer)
    union all
    select s.retry, s.status, s.detail, s.worker, s.agent_no, s.started_at, s.ended_at, s.failed_input, s.root_no
    where (s.status >= 11 or s.status = 4) and ($2::integer is null or s.retry = $2::integer)
    order by 1 desc limit 1
) as f on true
left join agents a on a.agent_no = f.agent_no
left join attempt_outputs o on o.task_no = s.task_no and o.retry = f.retry
left join tasks t on t.task_no = s.task_no and f.failed_input is not null
left join tasks root on root.task_no = f.root_no
where s.task_no = $1

-- name: causes
-- Why these tasks failed without having run: the links from each to the task whose own end was the first cause,
-- up to $2 of them, and then that task itself. One that runs again, or that completed when it was retried, is marked as
-- such: what it says now is not why it failed before.
with recursive links as (
    select s.task_no as asked, 0 as place, s.task_no, s.failed_input, s.root_no
    from unnest($1::bigint[]) as asked (task_no)
    join states s on s.task_no = asked.task_no
    union all
    select l.asked, l.place + 1, o.task_no, o.failed_input, o.root_no
    from links l
    join tasks t on t.task_no = l.task_no
    join results r on r.session_no = t.session_no and r.key = (t.data_dependencies || t.payload_key)[l.failed_input]
    join states o on o.task_no = r.owner_no
    where l.failed_input is not null and l.place < $2
), with_root as (
    select asked, place, task_no, failed_input from links
    union all
    select asked, place + 1, root_no, null from links where place = $2 and failed_input is not null
)
select l.asked, l.place, t.id, (t.data_dependencies || t.payload_key)[l.failed_input] as input, s.status,
       left(s.detail, $3) as detail,
       l.place > 0 and (s.status in (1, 2, 3)
                        or l.place > $2 and s.status = 10 and s.retry > 0 and s.ended_at > a.ended_at) as retried_since
from with_root l
join tasks t on t.task_no = l.task_no
join states s on s.task_no = l.task_no
join states a on a.task_no = l.asked
order by l.asked, l.place
