-- name: notify
-- One message for each text. Locks no row; PostgreSQL lets transactions that notify commit one after the other, so
-- this one holds nothing else.
select pg_notify($1, text) from unnest($2::text[]) as text

-- name: listeners
-- How many replicas listen in this database, by the names of their sessions. Locks nothing; a view of the server.
select count(*) from pg_stat_activity where application_name = $1 and datname = current_database()
