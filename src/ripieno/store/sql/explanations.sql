-- name: explained_task
-- One task with its state, its session, its options and the agent of its latest attempt.
-- tasks_pkey, states_pkey, sessions_pkey, options_pkey, agents_pkey.
select t.id, t.session_no, s.status, s.retry, s.unmet, s.priority, s.claimed_at, s.started_at, s.ended_at, s.worker,
       s.failed_input, s.root_no, left(s.detail, 8000) as detail,
       n.id as session_id, n.status as session_status, o.partition, o.max_duration_us,
       a.name as agent, (a.lease_until > now() and a.epoch < 9223372036854775807) as agent_connected, now() as asked_at
from tasks t
join states s on s.task_no = t.task_no
join sessions n on n.session_no = t.session_no
join options o on o.options_no = t.options_no
left join agents a on a.agent_no = s.agent_no
where t.task_no = $1

-- name: missing_inputs
-- Inputs of the task $1 that are not COMPLETED, $2 at most, in the order of the task: one look into results_pkey for each
-- input that the task has.
select needed.key, r.status, o.id as owner_id, own.status as owner_status
from tasks t
cross join lateral (
    select each.key, min(each.place) as place
    from unnest(t.data_dependencies || t.payload_key) with ordinality as each (key, place)
    group by each.key
) as needed
cross join lateral (
    select * from results r where r.session_no = t.session_no and r.key = needed.key and r.status <> 10 limit 1
) as r
left join tasks o on o.task_no = r.owner_no
left join states own on own.task_no = r.owner_no
where t.task_no = $1
order by needed.place
limit $2

-- name: missing_outputs
-- The same for expected outputs of a completed task.
select expected.key, r.status, r.owner_no, o.id as owner_id
from tasks t
cross join lateral unnest(t.expected_output_keys) with ordinality as expected (key, place)
cross join lateral (
    select * from results r where r.session_no = t.session_no and r.key = expected.key and r.status <> 10 limit 1
) as r
left join tasks o on o.task_no = r.owner_no
where t.task_no = $1
order by expected.place
limit $2

-- name: slots_of_partition
-- Connected agents that serve the partition $1, their slots, and how many of these are busy: what an agent holds
-- beyond its slots waits there, and is not read. states_held.
select count(*) as agents, coalesce(sum(a.slots), 0)::bigint as slots, coalesce(sum(held.tasks), 0)::bigint as busy
from agents a
cross join lateral (
    select count(*) as tasks
    from (select from states s where s.agent_no = a.agent_no and s.claim is not null limit a.slots) as each
) as held
where a.lease_until > now() and a.epoch < 9223372036854775807
  and $1::text = any (case when cardinality(a.partitions) = 0 then array['']::text[] else a.partitions end)

-- name: served_partitions
select distinct each.partition collate "C" as partition
from agents a
cross join lateral unnest(
    case when cardinality(a.partitions) = 0 then array['']::text[] else a.partitions end) as each (partition)
where a.lease_until > now() and a.epoch < 9223372036854775807
order by 1
limit $1

-- name: place_in_line
-- How many claimable tasks of the partition $1 are claimed before task $3 of priority $2, counted up to $4 twice.
-- states_claimable, in its order, twice.
select (
    select count(*) from (
        select from states s
        where s.partition = $1 and s.status = 1 and s.unmet = 0 and s.priority > $2
        order by s.priority desc, s.task_no limit $4
    ) as more_urgent
) + (
    select count(*) from (
        select from states s
        where s.partition = $1 and s.status = 1 and s.unmet = 0 and s.priority = $2 and s.task_no < $3
        order by s.priority desc, s.task_no limit $4
    ) as earlier
) as ahead

-- name: attempts_told
-- The latest $2 attempts of each of the tasks, oldest first. Of a long reason the beginning and the end are read.
-- earlier_attempts_pkey, states_pkey, agents_pkey.
select e.task_no, e.retry, e.status, a.name as agent, e.worker, e.claimed_at, e.started_at, e.ended_at,
       case when length(e.detail) > 3000 then left(e.detail, 1000) || E'\n' || right(e.detail, 2000) else e.detail end
           as detail
from unnest($1::bigint[]) as asked (task_no)
cross join lateral (
    select * from (
        (
            select b.task_no, b.retry, b.status, b.agent_no, b.worker, b.claimed_at, b.started_at, b.ended_at, b.detail
            from earlier_attempts b
            where b.task_no = asked.task_no order by b.task_no, b.retry desc limit $2
        )
        union all
        select s.task_no, s.retry, s.status, s.agent_no, s.worker, s.claimed_at, s.started_at, s.ended_at, s.detail
        from states s
        where s.task_no = asked.task_no and s.claimed_at is not null
    ) as each
    order by each.retry desc limit $2
) as e
left join agents a on a.agent_no = e.agent_no
order by e.task_no, e.retry

-- name: attempts_had
-- How many attempts a task has had.
select s.retry + (s.claimed_at is not null)::integer as attempts from states s where s.task_no = $1

-- name: timers_told
-- When the task $1 may start (kind 1) and is ended (kind 2), and how long that is from now. timers_pkey: a condition on
-- kind might be taken for one of timers_due, and all timers be read.
select i.kind, i.due_at, i.due_at - now() as left_for from timers i where i.task_no = $1
