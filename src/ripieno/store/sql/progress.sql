-- name: keep_progress
-- What replaces a row of before is later, since one agent alone speaks for a claim.
insert into live_progress (claim, session_no, task_no, fraction, text)
select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::double precision[], $5::text[])
on conflict (claim) do update
set fraction = excluded.fraction, text = excluded.text, written_at = excluded.written_at

-- name: progress_in_session
-- How far attempts of a session have come that run, of what was written since $2; of one task if $3 is not null. Locks
-- nothing.
select p.claim, t.id, s.retry, p.fraction, p.text, p.written_at
from live_progress p
join states s on s.task_no = p.task_no and coalesce(s.claim, 0) = p.claim  -- "coalesce" as in promote (0002)
join tasks t on t.task_no = p.task_no
where p.session_no = $1 and p.written_at >= $2 and ($3::bigint is null or p.task_no = $3::bigint)
order by p.written_at, p.task_no

-- name: session_is_there
-- Locks nothing.
select exists (select from sessions where session_no = $1) as is_there

-- name: forget_progress
-- Drops what nobody follows any more, or whose attempt is over. Few rows are ever there.
delete from live_progress where written_at < now() - $1::double precision * interval '1 second'
