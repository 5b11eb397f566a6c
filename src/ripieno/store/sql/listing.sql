-- name: page_of_tasks
-- The next $3 tasks of the sessions behind task $2, and of these the ones in the statuses $4 (null:
-- all). Each session gives its own next tasks from its index, so that a page costs a page however many
-- tasks there are (rows are compared as such because only that index can do it). One row of
-- arrays: a record for each task would cost the reader ten times as much.
select count(*) as looked_at, max(task_no) as last_no,
       coalesce(array_agg(id order by task_no) filter (where matching), '{}') as ids
from (
    select page.task_no, page.id,
           $4::smallint[] is null
               or (select status from states s where s.task_no = page.task_no) = any($4::smallint[]) as matching
    from (
        select next.task_no, next.id
        from unnest($1::bigint[]) as asked (session_no)
        cross join lateral (
            select t.task_no, t.id from tasks t
            where (t.session_no, t.task_no) > (asked.session_no, $2)
              and (t.session_no, t.task_no) <= (asked.session_no, 9223372036854775807)
            order by t.session_no, t.task_no limit $3
        ) as next
        order by next.task_no limit $3
    ) as page
) as looked_at
