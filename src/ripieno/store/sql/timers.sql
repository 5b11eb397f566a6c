-- Timers of tasks (store.graph.timers). All times are those of the database's clock.

-- name: begin_timers
-- Sets the timers of tasks that this transaction has created; their options say which. Locks nothing that exists;
-- tasks_pkey, options_pkey. Returns in how many seconds the first one is due.
with set_now as (
    insert into timers (task_no, kind, session_no, due_at)
    select t.task_no, timer.kind, t.session_no, timer.due_at
    from unnest($1::bigint[]) as new (task_no)
    join tasks t on t.task_no = new.task_no
    join options o on o.options_no = t.options_no
    cross join lateral (values (1, start_of(o.options)), (2, deadline_of(o.options))) as timer (kind, due_at)
    where timer.due_at is not null
    returning due_at
)
select extract(epoch from min(due_at) - now())::double precision as due_in_s from set_now

-- name: next_due
-- In how many seconds the next timer is due; 0 or less: one is due. Null: there is none. Locks nothing; timers_due.
select extract(epoch from min(next.due_at) - clock_timestamp())::double precision as due_in_s
from (select due_at from timers order by due_at limit 1) as next

-- name: due_sessions
-- Up to $2 sessions of the first $1 timers that are due, without those of the sessions $3. Locks nothing; timers_due.
select distinct due.session_no
from (
    select session_no from timers
    where due_at <= now() and session_no <> all($3::bigint[])
    order by due_at limit $1
) as due
limit $2

-- name: fire_timers
select * from fire_timers($1::bigint[], $2::integer)

-- name: expire_tasks
select ended_in as sessions, aborted_sessions, aborted_keys, cut_in, held_nos, held_sessions, held_claims, held_agents
from expire_tasks($1::bigint[], $2::integer)

-- name: timers_of
-- The timers of unfinished tasks. Locks nothing; timers_pkey, states_pkey.
select i.task_no, i.kind, i.due_at
from unnest($1::bigint[]) as asked (task_no)
join timers i on i.task_no = asked.task_no
join states s on s.task_no = i.task_no
where s.status < 10
