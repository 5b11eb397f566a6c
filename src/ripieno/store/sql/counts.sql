-- name: append_counts
-- The differences that a transaction has made. Locks nothing that exists: rows are only added, and no two
-- transactions meet in one. Index session_counts_by_session is written, none is read.
insert into session_counts (session_no, status, delta)
select * from unnest($1::bigint[], $2::smallint[], $3::bigint[])

-- name: counts_of_sessions
-- Tasks by status over the sessions; statuses below 1 stand for bytes. Locks nothing; session_counts_by_session.
select status, sum(delta)::bigint as tasks from session_counts
where session_no = any($1::bigint[]) and status > 0 group by status having sum(delta) <> 0 order by status

-- name: usage
-- Tasks that are not final (statuses 1 to 9) and bytes stored (-1). Locks nothing; session_counts_by_session.
select coalesce(sum(delta) filter (where status between 1 and 9), 0)::bigint as unfinished,
       coalesce(sum(delta) filter (where status = -1), 0)::bigint as stored
from session_counts where session_no = $1

-- name: fold
-- Replaces up to 10,000 rows of a session by one for each status. Locks the rows that it replaces (found through
-- session_counts_by_session, then deleted by place); those that another transaction is folding are skipped and
-- left alone: the sum is the same either way.
with folded as (
    delete from session_counts
    where ctid = any(array(
        select ctid from session_counts where session_no = $1 limit 10000 for update skip locked))
    returning status, delta
)
insert into session_counts (session_no, status, delta)
select $1, status, sum(delta) from folded group by status having sum(delta) <> 0

-- name: crowded_of_all
-- Sessions with many rows. Locks nothing; reads all rows, which folding keeps few.
select session_no from session_counts group by session_no having count(*) > 64

-- name: crowded_of_some
-- The same of some sessions only. Locks nothing; session_counts_by_session.
select session_no from session_counts where session_no = any($1::bigint[]) group by session_no having count(*) > 64
