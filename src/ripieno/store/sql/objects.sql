-- name: garbage
-- Names of objects to delete: one that no blob has linked for a day never will be, unless an attempt that may have
-- written it still runs. An agent may have the name for a while before it begins the attempt that uses it, but for
-- much less than the hour allowed here. Locks the notes that it returns, until the objects are deleted: a transaction
-- that links one of them after all waits, finds its note gone, and is refused. Notes locked by others are skipped.
-- The oldest claim is found through states_held; staged_objects is read whole, and holds only unlinked objects.
select name from staged_objects
where created_at < least(
    now() - interval '1 day', (select min(claimed_at) - interval '1 hour' from states where claim is not null))
limit 100 for update skip locked

-- name: unlinked
-- Those of the objects that nothing links to, whose notes this locks until they are deleted; staged_objects_pkey.
select name from staged_objects where name = any($1::text[]) for update skip locked

-- name: stage
-- Names that are about to be written. Locks nothing that exists: the names are fresh (staged_objects_pkey).
insert into staged_objects (name) select * from unnest($1::text[])

-- name: forget
-- Notes of objects that are deleted, which "garbage" has locked in this transaction; staged_objects_pkey.
delete from staged_objects where name = any($1::text[])

-- name: linked
-- The blob that links to an object. Locks nothing; blobs_by_object.
select size, sha256 from blobs where object = $1
