-- name: try_lock
-- Takes the advisory lock of migrations for the session, or says at once that another session has it: a statement
-- that waited would hold a snapshot, for which an index that is built concurrently waits.
select pg_try_advisory_lock($1)

-- name: unlock
-- Gives back the advisory lock that try_lock took.
select pg_advisory_unlock($1)

-- name: find_table
-- The table of that name, null if there is none. Locks nothing.
select to_regclass($1)

-- name: create_steps
-- Called with the advisory lock of migrations held, so nobody else creates it.
create table if not exists migration_steps
    (version integer not null, step integer not null, primary key (version, step))

-- name: applied
-- Versions that are applied. Locks nothing; one row a migration, read whole.
select version from migrations

-- name: steps_done
-- Steps of a migration that are committed. Locks nothing; migration_steps_pkey.
select step from migration_steps where version = $1

-- name: note_step
-- In the transaction of the step, or right after a step that has none (kind alone). Locks nothing that exists.
insert into migration_steps (version, step) values ($1, $2)

-- name: note_migration
-- In the transaction of its last step. Locks nothing that exists.
insert into migrations (version, name) values ($1, $2)

-- name: invalid_indexes
-- Indexes of no use, left behind where the concurrent build of an index was interrupted. Locks nothing; catalogues of
-- the server.
select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where not i.indisvalid and c.relnamespace = current_schema()::regnamespace
