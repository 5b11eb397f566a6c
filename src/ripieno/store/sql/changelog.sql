-- name: origin
-- Where the log is now, and which log it is: a restored copy has other tables, another server another identifier, and
-- a standby that took over another timeline. Locks nothing.
select md5(concat_ws('/', (select system_identifier from pg_control_system()),
                     (select timeline_id from pg_control_checkpoint()), 'cluster'::regclass::oid)) as origin,
       pg_current_snapshot()::text as seen, pg_current_wal_insert_lsn()::text as written

-- name: flushed
select pg_current_wal_flush_lsn() >= $1::text::pg_lsn as flushed

-- name: batch
-- Up to $4 changes, by number, that snapshot $2 sees and snapshot $1 does not, with numbers above $3, of the sessions
-- $5 (null: of all). Without $2 the batch ends with the first mark behind $1, or now. Locks nothing;
-- changes_by_transaction.
select upto.snapshot as upto, upto.snapshot = pg_current_snapshot()::text as last, pg_current_wal_insert_lsn()::text as written,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_transaction,
       (select changes_dropped::text from cluster) as dropped,
       c.change_no, c.transaction::text::bigint as transaction, c.session_no, c.made_at, c.kind, c.status, c.task_nos, c.attempts, c.keys
from (
    select coalesce(
        $2::text,
        (select m.snapshot::text from change_marks m
         where pg_snapshot_xmin(m.snapshot) > pg_snapshot_xmin($1::text::pg_snapshot)
         order by m.mark_no limit 1),
        pg_current_snapshot()::text) as snapshot
) as upto
left join lateral (
    select each.change_no, each.transaction, each.session_no, each.made_at, each.kind, each.status,
           each.task_nos, each.attempts, each.keys
    from changes each
    where each.transaction >= pg_snapshot_xmin($1::text::pg_snapshot)
      and each.transaction < pg_snapshot_xmax(upto.snapshot::pg_snapshot)
      and not pg_visible_in_snapshot(each.transaction, $1::text::pg_snapshot)
      and pg_visible_in_snapshot(each.transaction, upto.snapshot::pg_snapshot)
      and each.change_no > $3
      and ($5::bigint[] is null or each.session_no = any($5::bigint[]))
    order by each.change_no
    limit $4
) as c on true
order by c.change_no

-- name: touched
-- The sessions of changes that this statement sees and snapshot $1 does not. Locks nothing; changes_by_transaction.
select pg_current_snapshot()::text as upto, pg_current_wal_insert_lsn()::text as written, array(
    select distinct session_no from changes
    where transaction >= pg_snapshot_xmin($1::text::pg_snapshot)
      and not pg_visible_in_snapshot(transaction, $1::text::pg_snapshot)) as sessions

-- name: tasks
-- Locks nothing; tasks_pkey and states_pkey.
select t.task_no, t.id, t.expected_output_keys, t.data_dependencies, s.retry
from tasks t join states s on s.task_no = t.task_no
where t.task_no = any($1::bigint[])

-- name: session_ids
-- Of sessions that were deleted, too. Locks nothing; sessions_pkey, deleted_sessions_pkey.
select session_no, id from sessions where session_no = any($1::bigint[])
union all
select session_no, id from deleted_sessions where session_no = any($1::bigint[])

-- name: results
-- Owner and size of results. Locks nothing; results_pkey, tasks_pkey, blobs_pkey.
select r.session_no, r.key, r.owner_no, r.status, t.id as owner_id, coalesce(b.size, r.size) as size
from unnest($1::bigint[], $2::text[]) as asked (session_no, key)
join results r on r.session_no = asked.session_no and r.key = asked.key
left join tasks t on t.task_no = r.owner_no
left join blobs b on b.blob_no = r.blob_no

-- name: session_now
-- A session as it is, for the beginning of a snapshot. Locks nothing.
select session_no, id, status, created_at, pg_current_snapshot()::text as seen, pg_current_wal_insert_lsn()::text as written
from sessions where session_no = any($1::bigint[])

-- name: all_sessions
select session_no from sessions order by session_no

-- name: tasks_now
-- The next $3 tasks of a session behind number $2, and how many they are. Locks nothing; tasks_by_session, states_pkey.
select pg_current_snapshot()::text as seen, pg_current_wal_insert_lsn()::text as written,
       count(page.task_no) over () as found, page.*
from (select) as always left join (
    select t.task_no, t.id, t.submitted_at, t.expected_output_keys, t.data_dependencies, s.status, s.retry, s.unmet
    from tasks t join states s on s.task_no = t.task_no
    where (t.session_no, t.task_no) > ($1, $2) and (t.session_no, t.task_no) <= ($1, 9223372036854775807)
    order by t.session_no, t.task_no limit $3
) as page on true
order by page.task_no

-- name: results_now
-- The next $3 results of a session behind key $2, and how many they are. Locks nothing; results_pkey.
select pg_current_snapshot()::text as seen, pg_current_wal_insert_lsn()::text as written,
       count(page.key) over () as found, page.*
from (select) as always left join (
    select r.key, r.status, r.created_at, r.ended_at, t.id as owner_id, coalesce(b.size, r.size) as size
    from results r
    left join tasks t on t.task_no = r.owner_no
    left join blobs b on b.blob_no = r.blob_no
    where (r.session_no, r.key) > ($1, $2 collate "C") and r.session_no = $1 and r.status > 0
    order by r.session_no, r.key limit $3
) as page on true
order by page.key

-- name: mark
-- Ends a stretch of the log with the present snapshot, if anything came since the last mark. Locks nothing;
-- changes_by_transaction.
with last as (
    select coalesce((select snapshot from change_marks order by mark_no desc limit 1), '1:1:'::pg_snapshot) as snapshot
)
insert into change_marks (snapshot, bytes)
select pg_current_snapshot(),
       sum(80 + coalesce(pg_column_size(c.task_nos), 0) + coalesce(pg_column_size(c.attempts), 0)
           + coalesce(pg_column_size(c.keys), 0))
from last join changes c
  on c.transaction >= pg_snapshot_xmin(last.snapshot) and not pg_visible_in_snapshot(c.transaction, last.snapshot)
having count(*) > 0

-- name: to_drop
-- The last mark of the stretches that are older than $1 seconds, or that come before the newest $2 bytes.
select max(mark_no) as mark_no from (
    select mark_no, made_at, sum(bytes) over (order by mark_no desc) as bytes from change_marks
) as marks
where made_at < now() - $1 * interval '1 second' or bytes > $2

-- name: begin_drop
-- From its commit on, readers who have not seen what this mark sees are told that it is gone. No row if another replica
-- has dropped as much already.
update cluster c set changes_dropped = m.snapshot
from change_marks m
where m.mark_no = $1
  and (c.changes_dropped is null or pg_snapshot_xmax(c.changes_dropped) <= pg_snapshot_xmax(m.snapshot))
returning m.mark_no

-- name: drop_some
-- Drops up to $2 rows that mark $1 sees. Locks them; changes_by_transaction.
delete from changes c
using (
    select each.ctid as place from change_marks m
    join changes each on each.transaction < pg_snapshot_xmax(m.snapshot)
     and pg_visible_in_snapshot(each.transaction, m.snapshot)
    where m.mark_no = $1
    order by each.transaction
    limit $2
) as old
where c.ctid = old.place
returning c.change_no

-- name: end_drop
delete from change_marks where mark_no <= $1
