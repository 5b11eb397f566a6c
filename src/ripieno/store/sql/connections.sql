-- name: who
-- Who is at the other end of a new session. A server that was started anew, however much it forgot by that, has
-- another time of start; another database has another cluster id; one that was restored, or is a copy, is another
-- database of its server, or holds other tables. Locks nothing; $1 names the table cluster, which may be missing.
select pg_backend_pid() as pid, extract(epoch from pg_postmaster_start_time())::text as started,
       pg_is_in_recovery() as standby, current_setting('transaction_read_only')::boolean as read_only,
       (select source from pg_settings where name = 'default_transaction_read_only') as read_only_by,
       current_setting('server_encoding') as encoding, current_user::text as role,
       (select oid::bigint from pg_database where datname = current_database()) as database,
       to_regclass($1)::oid::bigint as home

-- name: durable
-- A role for which commits do not wait for the disk would make a lie of what we promise. What waits for more than
-- the disk (standbys) is left as it is. Locks nothing.
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'

-- name: home
-- The number of the table cluster as it is now: another one after a restore. Locks nothing.
select to_regclass($1)::oid::bigint

-- name: working
-- Processes of the server that are at work (a server that does not track activities is believed). Locks nothing;
-- a view of the server.
select pid from pg_stat_activity
where pid = any($1::int[]) and coalesce(state, 'disabled') in ('active', 'fastpath function call', 'disabled')
