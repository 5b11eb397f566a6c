-- name: promote_some
select * from promote_some($1::bigint[], $2::text[], array_fill(0::bigint, array[cardinality($1)]), $3::integer)

-- name: promote_pending
select * from promote_pending($1::bigint, $2::integer)

-- name: pending_promotions
-- The progress of the promotions of each session: the lowest number grows with each step.
select session_no, min(promotion_no) as lowest from pending_promotions group by session_no

-- name: begin_cuts
select * from begin_cuts($1::bigint[], $2::text[], $3::bigint[], $4::integer, $5::integer)

-- name: cut_sessions
select * from cut_sessions($1::bigint[], $2::integer, $3::integer)

-- name: pending_cuts
-- The progress of the cuts of each session: the lowest number grows with each step.
select session_no, min(cut_no) as lowest from pending_cuts group by session_no

-- name: abort_outputs
-- Aborts the open results that these tasks own. Each is looked up by itself (limit 1): else
-- the planner of a new database goes through all results of the session for each task. Their
-- places cannot change meanwhile: transactions that would change them wait at the gate or for our locks.
with owned as materialized (
    select found.place
    from unnest($1::bigint[]) as ended (task_no)
    join tasks t on t.task_no = ended.task_no
    cross join lateral unnest(t.expected_output_keys) as expected (key)
    cross join lateral (
        select r.ctid as place from results r
        where r.session_no = t.session_no and r.key = expected.key and r.owner_no = t.task_no and r.status = 1
        limit 1
    ) as found
), aborted as (
    update results r
    set status = 11, ended_at = now()
    from owned
    where r.ctid = owned.place
    returning r.session_no, r.key, r.awaited
), logged as (
    insert into changes (session_no, kind, status, keys)
    select session_no, 7, 11, array_agg(key) from aborted group by session_no
)
select session_no, key, awaited from aborted
