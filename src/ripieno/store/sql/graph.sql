-- name: promote
select unnest(promote($1::bigint[], $2::text[])) as partition

-- name: dependents
-- Who waits for aborted keys, each with one of them and what is known of its cause.
select distinct on (d.task_no)
    d.task_no, d.key, t.id as owner_id, o.status as owner_status, coalesce(r.reason, o.detail) as cause
from unnest($1::bigint[], $2::text[]) as aborted (session_no, key)
join dependencies d on d.session_no = aborted.session_no and d.key = aborted.key
join states s on s.task_no = d.task_no and s.status = 1
join results r on r.session_no = d.session_no and r.key = d.key
left join tasks t on t.task_no = r.owner_no
left join states o on o.task_no = r.owner_no
order by d.task_no, d.key

-- name: sessions_with_dependents
select distinct aborted.session_no
from unnest($1::bigint[], $2::text[]) as aborted (session_no, key)
where exists (
    select from dependencies d join states s on s.task_no = d.task_no and s.status = 1
    where d.session_no = aborted.session_no and d.key = aborted.key)

-- name: fail_dependents
update states s
set status = 11, detail = failed.detail, ended_at = now()
from unnest($1::bigint[], $2::text[]) as failed (task_no, detail)
where s.task_no = failed.task_no and s.status = 1
returning s.task_no, s.session_no

-- name: abort_outputs
-- What these tasks still own and have not completed. Each is looked up by itself (limit 1): else
-- the planner of a new database goes through all results of the session for each task. Their
-- places cannot change meanwhile: whoever would change them waits at the gate or for our locks.
with owned as materialized (
    select found.place, ended.reason
    from unnest($1::bigint[], $2::text[]) as ended (task_no, reason)
    join tasks t on t.task_no = ended.task_no
    cross join lateral unnest(t.expected_output_keys) as expected (key)
    cross join lateral (
        select r.ctid as place from results r
        where r.session_no = t.session_no and r.key = expected.key and r.owner_no = t.task_no and r.status = 1
        limit 1
    ) as found
)
update results r
set status = 11, ended_at = now(), reason = owned.reason
from owned
where r.ctid = owned.place
returning r.session_no, r.key
