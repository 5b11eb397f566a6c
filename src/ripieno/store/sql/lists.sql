-- name: cursor_secret
select cursor_secret from cluster

-- name: total_of_counts
-- Tasks of the sessions with the ids $1 (null: of all) in the statuses $2 (null: in any), from the sums that are kept
-- anyway. Locks nothing; sessions_pkey, sessions_id_key and session_counts_by_session.
select coalesce(sum(c.delta), 0)::bigint
from session_counts c
where c.status > 0
  and exists (select from sessions s where s.session_no = c.session_no)
  and ($1::text[] is null or c.session_no = any (array(select s.session_no from sessions s where s.id = any ($1::text[]))))
  and ($2::smallint[] is null or c.status = any ($2::smallint[]))
