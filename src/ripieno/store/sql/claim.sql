-- name: claim
-- The most urgent claimable tasks of one partition, spread over agents: the i-th picked
-- goes to the i-th entry of $4. Rows that another transaction has locked are skipped, not waited for.
-- $3 is the first token of this statement, drawn at random: each claim has a token of its own,
-- and none is used again.
-- The payload is looked up by its number, or through the result that it is. That result is looked at for such tasks
-- alone, and may have been deleted since the task became claimable: then the task is claimed without a payload (no size), with
-- that result as a dependency. The agent is told to fetch it, finds out that it is gone, and fails the task.
with picked as materialized (
    select ctid as place
    from states
    where partition = $1 and status = 1 and unmet = 0
    order by priority desc, task_no
    limit $2
    for update skip locked
), numbered as materialized (
    select place, row_number() over () as turn from picked
), claimed as (
    update states s
    set status = 2, claim = $3 + numbered.turn, agent_no = ($4::bigint[])[numbered.turn], claimed_at = now()
    from numbered
    where s.ctid = numbered.place
    returning s.task_no, s.session_no, s.claim, s.agent_no, s.retry, s.priority
), counted as (
    insert into session_counts (session_no, status, delta)
    select session_no, change.status, change.sign * count(*)
    from claimed cross join (values (1, -1), (2, 1)) as change (status, sign)
    group by session_no, change.status, change.sign
), logged as (
    insert into changes (session_no, kind, status, task_nos, attempts)
    select session_no, 4, 2, array_agg(task_no), case when max(retry) > 0 then array_agg(retry) end
    from claimed group by session_no
)
select c.task_no, c.session_no, c.claim, c.agent_no, c.retry, c.priority,
       t.id, t.options_no, t.expected_output_keys,
       case when b.size is null then t.data_dependencies || t.payload_key else t.data_dependencies end as data_dependencies,
       b.data, b.size, b.object, b.sha256
from claimed c
join tasks t on t.task_no = c.task_no
left join blobs b on b.blob_no = coalesce(
    t.payload_no, (select p.blob_no from results p where p.session_no = t.session_no and p.key = t.payload_key))
order by c.priority desc, c.task_no

-- name: claim_onward
-- Claims as "claim" does, but of tasks of priority $5 only those after number $6, and all more urgent ones: dead
-- entries before that place are not read. All that follows the first two parts is as in "claim".
with urgent as materialized (
    select ctid as place
    from states
    where partition = $1 and status = 1 and unmet = 0 and priority > $5
    order by priority desc, task_no
    limit $2
    for update skip locked
), onward as materialized (
    select ctid as place
    from states
    where partition = $1 and status = 1 and unmet = 0 and priority = $5 and task_no > $6
    order by priority desc, task_no
    limit $2 - (select count(*) from urgent)
    for update skip locked
), numbered as materialized (
    select place, row_number() over () as turn from (select * from urgent union all select * from onward) as picked
), claimed as (
    update states s
    set status = 2, claim = $3 + numbered.turn, agent_no = ($4::bigint[])[numbered.turn], claimed_at = now()
    from numbered
    where s.ctid = numbered.place
    returning s.task_no, s.session_no, s.claim, s.agent_no, s.retry, s.priority
), counted as (
    insert into session_counts (session_no, status, delta)
    select session_no, change.status, change.sign * count(*)
    from claimed cross join (values (1, -1), (2, 1)) as change (status, sign)
    group by session_no, change.status, change.sign
), logged as (
    insert into changes (session_no, kind, status, task_nos, attempts)
    select session_no, 4, 2, array_agg(task_no), case when max(retry) > 0 then array_agg(retry) end
    from claimed group by session_no
)
select c.task_no, c.session_no, c.claim, c.agent_no, c.retry, c.priority,
       t.id, t.options_no, t.expected_output_keys,
       case when b.size is null then t.data_dependencies || t.payload_key else t.data_dependencies end as data_dependencies,
       b.data, b.size, b.object, b.sha256
from claimed c
join tasks t on t.task_no = c.task_no
left join blobs b on b.blob_no = coalesce(
    t.payload_no, (select p.blob_no from results p where p.session_no = t.session_no and p.key = t.payload_key))
order by c.priority desc, c.task_no

-- name: find_options
select options_no, max_duration_us, max_retries, priority, partition, options
from options where options_no = any($1::bigint[])
