-- name: commit_plain_with_outputs
-- The plain case of a commit, where some of the attempts have printed something. The number of an attempt is that of
-- the statement's snapshot: it does not change as long as the claim owns the task, which commit_plain makes sure of.
with committed as materialized (
    select commit_plain(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[],
        $8::integer[], $9::text[], $10::bigint[],
        $11::bigint[], $12::bytea[], $13::bigint[], $14::text[], $15::bigint[], $16::bytea[]) as partitions
), kept as (
    insert into attempt_outputs (task_no, retry, stdout, stderr, stdout_left_out, stderr_left_out)
    select s.task_no, s.retry, printed.stdout, printed.stderr, printed.stdout_left_out, printed.stderr_left_out
    from committed
    cross join unnest($17::bigint[], $18::bytea[], $19::bytea[], $20::bigint[], $21::bigint[])
        as printed (task_no, stdout, stderr, stdout_left_out, stderr_left_out)
    join states s on s.task_no = printed.task_no
)
select partitions from committed

-- name: keep_outputs
-- Called with the states of the attempts locked. Nobody else writes these rows.
insert into attempt_outputs (task_no, retry, stdout, stderr, stdout_left_out, stderr_left_out, failure_value)
select * from unnest($1::bigint[], $2::integer[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bytea[])
on conflict (task_no, retry) do update
set stdout = excluded.stdout, stderr = excluded.stderr,
    stdout_left_out = excluded.stdout_left_out, stderr_left_out = excluded.stderr_left_out,
    failure_value = excluded.failure_value

-- name: keep_outputs_of_lost
-- Called with the states of the attempts locked. What followers were told of attempts whose agent says nothing more.
insert into attempt_outputs (task_no, retry, stdout, stderr, stdout_left_out, stderr_left_out)
select lost.task_no, lost.retry, l.stdout, l.stderr, l.stdout_left_out, l.stderr_left_out
from unnest($1::bigint[], $2::integer[], $3::bigint[]) as lost (task_no, retry, claim)
join live_outputs l on l.claim = lost.claim
where length(l.stdout) + length(l.stderr) + l.stdout_left_out + l.stderr_left_out > 0
on conflict (task_no, retry) do nothing

-- name: output_of_attempt
-- One attempt of a task, or the latest one: whether it is over, who holds it, and what it has printed: all of it if it
-- is over, else what a follower was told last. Locks nothing.
select s.session_no, asked.retry as attempt, s.retry as latest, asked.retry < s.retry or s.status >= 10 as over,
       case when asked.retry = s.retry then s.claim end as claim, s.agent_no, l.written_at,
       coalesce(o.stdout, l.stdout) as stdout, coalesce(o.stderr, l.stderr) as stderr,
       coalesce(o.stdout_left_out, l.stdout_left_out) as stdout_left_out,
       coalesce(o.stderr_left_out, l.stderr_left_out) as stderr_left_out
from states s
cross join lateral (select coalesce($2::integer, s.retry) as retry) as asked
left join attempt_outputs o on o.task_no = s.task_no and o.retry = asked.retry
left join live_outputs l on l.claim = s.claim and asked.retry = s.retry
where s.task_no = $1

-- name: keep_live_outputs
insert into live_outputs (claim, stdout, stderr, stdout_left_out, stderr_left_out)
select * from unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
on conflict (claim) do update
set stdout = excluded.stdout, stderr = excluded.stderr, stdout_left_out = excluded.stdout_left_out,
    stderr_left_out = excluded.stderr_left_out, written_at = excluded.written_at

-- name: forget_live_outputs
-- Drops what nobody follows any more, or whose attempt is over. Few rows are ever there.
delete from live_outputs where written_at < now() - $1::double precision * interval '1 second'
