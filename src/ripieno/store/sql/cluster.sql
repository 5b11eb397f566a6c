-- name: cluster
-- The only row. Locks nothing, and needs no index.
select cluster_id::text, objects from cluster

-- name: agree_on_objects
-- The first replica decides. Locks the only row: one that comes at the same time waits, and then reads the place
-- that the first one has written.
update cluster set objects = coalesce(objects, $1) returning objects

-- name: move_objects
-- The directory has moved. Locks the only row.
update cluster set objects = $1

-- name: cluster_id
-- Read once for each new session (store.database.connections). Locks nothing.
select cluster_id::text from cluster
