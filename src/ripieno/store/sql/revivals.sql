-- name: retry_tasks
select retry.retried, retry.claimable, retry.timed, n.status as session_status
from sessions n cross join lateral retry_timed_tasks($1::bigint, $2::bigint[], $3::bigint[], $4::boolean) as retry
where n.session_no = $1

-- name: revive_some
select * from revive_some($1::bigint, $2::integer, clock_timestamp() + $3::integer * interval '1 millisecond')

-- name: pending_revivals
-- The progress of the revivals of each session: the lowest number grows with each step.
select session_no, min(revival_no) as lowest from pending_revivals group by session_no

-- name: failed_in_session
-- Those of the next $3 tasks of a session behind task $2, up to task $4, that failed: by themselves, or for want of an
-- input. Locks nothing; states_failed (which has the cancelled ones, too; rows are compared as such because only that
-- index can do it), tasks_pkey. To retry a task costs several times what it costs to fail one (measured).
select count(*) as looked_at, max(page.task_no) as last_no,
       coalesce(array_agg(page.task_no order by page.task_no) filter (where page.failed and page.by_itself), '{}') as numbers,
       coalesce(array_agg(page.options_no order by page.task_no) filter (where page.failed and page.by_itself), '{}')
           as options_nos,
       coalesce(array_agg(page.weight order by page.task_no) filter (where page.failed and page.by_itself), '{}') as weights,
       coalesce(array_agg(page.task_no order by page.task_no) filter (where page.failed and not page.by_itself), '{}')
           as for_want_of_input
from (
    select next.task_no, t.options_no, next.status <> 13 as failed, next.failed_input is null as by_itself,
           6 + 2 * coalesce(next.outputs, 1) + cardinality(t.data_dependencies) as weight
    from (
        select s.task_no, s.status, s.failed_input, s.outputs from states s
        where s.status in (11, 12, 13)
          and (s.session_no, s.task_no) > ($1, $2) and (s.session_no, s.task_no) <= ($1, $4)
        order by s.session_no, s.task_no limit $3
    ) as next
    join tasks t on t.task_no = next.task_no
) as page

-- name: failed_of
-- Those of the tasks that failed by themselves. Locks nothing; states_pkey, tasks_pkey (coalesce keeps the planner from
-- going through the index of all that failed).
select t.task_no, t.options_no, 6 + 2 * coalesce(s.outputs, 1) + cardinality(t.data_dependencies) as weight
from unnest($1::bigint[]) as asked (task_no)
join states s on s.task_no = asked.task_no
join tasks t on t.task_no = asked.task_no
where coalesce(s.status, 0) in (11, 12) and s.failed_input is null
order by t.task_no

-- name: present
select clock_timestamp() as present

-- name: still_failed
-- Those of the tasks that failed before a time, and are failed still: whoever was revived and failed again is not among
-- them. Locks nothing; tasks_pkey, states_pkey (coalesce as above).
select t.task_no, t.id
from unnest($1::bigint[]) as asked (task_no)
join states s on s.task_no = asked.task_no
join tasks t on t.task_no = asked.task_no
where coalesce(s.status, 0) in (11, 12) and s.ended_at < $2::timestamptz
order by t.task_no
