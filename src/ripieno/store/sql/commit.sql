-- name: commit_plain
select commit_plain(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[],
    $8::integer[], $9::text[], $10::bigint[],
    $11::bigint[], $12::bytea[], $13::bigint[], $14::text[], $15::bigint[], $16::bytea[])

-- name: lock_attempts
-- Phase 2: locks those attempts whose claim still owns the task. The caller sorts by task number.
-- "is not distinct from", here and wherever a claim is compared: from "=" the planner proves that
-- claim is not null, and goes through the index of held attempts from end to end for each row
-- (that index looks small to it when little was held the last time it looked).
select s.task_no, s.claim, s.session_no, s.retry, s.max_retries, s.status, s.partition, s.detail, t.id, t.expected_output_keys,
       n.status as session_status, n.worker_submission
from unnest($1::bigint[], $2::bigint[]) as ended (task_no, claim)
join states s on s.task_no = ended.task_no and s.claim is not distinct from ended.claim
join tasks t on t.task_no = ended.task_no
join sessions n on n.session_no = s.session_no
for no key update of s

-- name: write_outcomes
-- One statement for the parts of most flushes: completed results, ended attempts and counts.
-- The caller sorts results by (session, key), which is the order of their locks if none are
-- held yet, and checks how many were written: a result that its task owns no more, or that is final,
-- is not written. If an outcome does not say who ran it, when it began or why it ended (a rescued or a
-- cancelled attempt), the values noted before stay.
with stored as (
    insert into blobs (blob_no, size, data)
    select blob_no, length(data), data
    from unnest($4::bigint[], $5::bytea[]) as produced (blob_no, data)
    where data is not null
), completed as (
    update results r
    set status = 10, blob_no = produced.blob_no, ended_at = now()
    from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) as produced (session_no, key, owner_no, blob_no)
    where r.session_no = produced.session_no and r.key = produced.key
      and r.owner_no = produced.owner_no and r.status = 1
    returning r.session_no, r.key, r.awaited
), logged as (
    insert into changes (session_no, kind, status, keys)
    select session_no, 7, 10, array_agg(key) from completed group by session_no
), ended as (
    update states s
    set status = ended.status, claim = null, detail = coalesce(ended.detail, s.detail),
        worker = coalesce(nullif(ended.worker, ''), s.worker),
        started_at = coalesce(to_timestamp(nullif(ended.started_at_us, 0) / 1e6), s.started_at),
        ended_at = now()
    from unnest($6::bigint[], $7::smallint[], $8::text[], $9::text[], $10::bigint[])
        as ended (task_no, status, detail, worker, started_at_us)
    where s.task_no = ended.task_no
    returning s.task_no, s.session_no, s.status, s.retry
), logged_tasks as (
    insert into changes (session_no, kind, status, task_nos, attempts)
    select session_no, 4, status, array_agg(task_no), case when max(retry) > 0 then array_agg(retry) end
    from ended group by session_no, status
), counted as (
    insert into session_counts (session_no, status, delta)
    select * from unnest($11::bigint[], $12::smallint[], $13::bigint[])
)
select count(*) as completed,
       coalesce(array_agg(session_no) filter (where awaited), '{}') as awaited_sessions,
       coalesce(array_agg(key) filter (where awaited), '{}') as awaited_keys
from completed

-- name: retry_attempts
-- Keeps the attempt in earlier_attempts and makes the task claimable again, under its next attempt number. If its session
-- is paused (the gate is held, so that stays so), the task is parked. If its options say how long to wait before the next
-- attempt, it waits: a timer is one more unmet dependency. Attempts are counted from the last retry that somebody asked for,
-- which has raised max_retries. Returns the partitions in which a task is claimable, and in how many seconds one will be.
with failed as materialized (
    select ended.*, t.session_no,
           case when o.options ? 'ripieno.retry.first_delay'
                then delay_before_attempt(o.options, s.retry - (s.max_retries - o.max_retries) + 1) end as delay
    from unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::bigint[])
        as ended (task_no, status, detail, worker, started_at_us)
    join states s on s.task_no = ended.task_no
    join tasks t on t.task_no = ended.task_no
    join options o on o.options_no = t.options_no
), earlier as (
    insert into earlier_attempts
        (task_no, retry, status, agent_no, claimed_at, started_at, ended_at, worker, detail)
    select s.task_no, s.retry, failed.status, s.agent_no, s.claimed_at,
           coalesce(to_timestamp(nullif(failed.started_at_us, 0) / 1e6), s.started_at), now(),
           coalesce(nullif(failed.worker, ''), s.worker), failed.detail
    from failed
    join states s on s.task_no = failed.task_no
), again as (
    update states s
    set status = 1, claim = null, retry = s.retry + 1, unmet = case when failed.delay is null then 0 else 1 end,
        partition = case when (select n.status from sessions n where n.session_no = s.session_no) = 2 then ' ' else s.partition end,
        agent_no = null, claimed_at = null, started_at = null, ended_at = null, worker = null, detail = null
    from failed
    where s.task_no = failed.task_no
    returning s.task_no, s.session_no, s.retry, s.partition, s.unmet
), waits as (
    insert into timers (task_no, kind, session_no, due_at)
    select failed.task_no, 1, failed.session_no, now() + failed.delay from failed where failed.delay is not null
), logged as (
    insert into changes (session_no, kind, status, task_nos, attempts)
    select session_no, 4, 1, array_agg(task_no), array_agg(retry) from again group by session_no
)
select coalesce(array_agg(distinct again.partition) filter (where again.unmet = 0 and again.partition <> ' '), '{}') as claimable,
       (select extract(epoch from min(failed.delay))::double precision from failed) as due_in_s
from again

-- name: mark_started_if_owned
with started as (
    update states s
    set status = 3, started_at = to_timestamp(begun.at_us / 1e6), worker = begun.worker
    from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) as begun (task_no, claim, at_us, worker)
    where s.task_no = begun.task_no and s.claim is not distinct from begun.claim and s.status = 2
    returning s.task_no, s.session_no, s.retry
), logged as (
    insert into changes (session_no, kind, status, task_nos, attempts)
    select session_no, 4, 3, array_agg(task_no), case when max(retry) > 0 then array_agg(retry) end
    from started group by session_no
)
select session_no from started

-- name: mark_interrupting_if_owned
-- Notes that a cancelled attempt had begun, which confirms its cancellation.
-- (coalesce keeps the planner from going through the index of all that is being cancelled.)
update states s
set started_at = coalesce(s.started_at, now())
from unnest($1::bigint[], $2::bigint[]) as begun (task_no, claim)
where s.task_no = begun.task_no and s.claim is not distinct from begun.claim and coalesce(s.status, 0) = 4
returning s.session_no

-- name: lock_to_release
-- Rows are locked first, so that the status before is the latest one: the attempt may have been marked as started just
-- now. And the next statement, which reads the status of the session, has a snapshot that was taken after the wait.
select s.task_no, s.session_no, s.status as before
from unnest($1::bigint[], $2::bigint[]) as released (task_no, claim)
join states s on s.task_no = released.task_no and s.claim is not distinct from released.claim
where s.status in (2, 3)
for no key update of s

-- name: release_locked
-- Tasks of a paused session are parked. A sweep that parks, or puts back, waits for these locks (store.life.parking).
with released as (
    update states s
    set status = 1, claim = null, agent_no = null, claimed_at = null, started_at = null, worker = null,
        partition = case when (select n.status from sessions n where n.session_no = s.session_no) = 2 then ' ' else s.partition end
    from unnest($1::bigint[]) as locked (task_no)
    where s.task_no = locked.task_no
    returning s.session_no, s.partition, s.task_no, s.retry
), logged as (
    insert into changes (session_no, kind, status, task_nos, attempts)
    select session_no, 4, 1, array_agg(task_no), case when max(retry) > 0 then array_agg(retry) end
    from released group by session_no
)
select partition from released
