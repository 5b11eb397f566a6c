-- name: task_numbers
-- Numbers in the order of submission, which is also the order of claims: taken for each call just
-- before it is written, never in blocks kept by a replica.
select coalesce(array_agg(nextval('task_numbers')), '{}') from generate_series(1, $1::integer)

-- name: submit_plain
select submit_plain(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bytea[],
    $9::text[], $10::integer[], $11::text[], $12::integer[], $13::bigint[], $14::bigint)

-- name: takers
-- The sessions as tasks are about to be added to them: the gates are held, so no step of a session's life comes between.
select session_no, status, client_submission from sessions where session_no = any($1::bigint[])

-- name: name_keys
-- Phase 3: a row for every key that is named, announced (owner given) or not. The caller
-- sorts by (session, key). Existing rows are left alone and not counted.
insert into results (session_no, key, owner_no, awaited, status)
select session_no, key, owner_no, awaited, case when owner_no is null then 0 else 1 end
from unnest($1::bigint[], $2::text[], $3::bigint[], $4::boolean[]) as named (session_no, key, owner_no, awaited)
on conflict do nothing

-- name: lock_open_keys
-- Phase 4: locks those of the named keys that existed before and are not final. The order of
-- the array is the order of the locks (a nested loop over it, see store.database.connections).
select r.session_no, r.key, r.status, r.owner_no
from unnest($1::bigint[], $2::text[]) as named (session_no, key)
join results r on r.session_no = named.session_no and r.key = named.key
where r.status < 10
for no key update of r

-- name: read_keys
select r.session_no, r.key, r.status, r.owner_no, r.awaited, t.id as owner_id
from unnest($1::bigint[], $2::text[]) as named (session_no, key)
join results r on r.session_no = named.session_no and r.key = named.key
left join tasks t on t.task_no = r.owner_no

-- name: mark_awaited
-- Marks keys for which a task waits from now on; this transaction has locked them.
update results r
set awaited = true
from unnest($1::bigint[], $2::text[]) as named (session_no, key)
where r.session_no = named.session_no and r.key = named.key

-- name: announce_keys
-- Gives an owner to keys that were only named so far, and to results that clients have created and nobody has
-- uploaded; this transaction has locked them.
with owned as (
    update results r
    set owner_no = named.owner_no, status = 1, created_at = now()
    from unnest($1::bigint[], $2::text[], $3::bigint[]) as named (session_no, key, owner_no)
    where r.session_no = named.session_no and r.key = named.key and r.status in (0, 1) and r.owner_no is null
)
delete from unowned_results u
using unnest($1::bigint[], $2::text[]) as named (session_no, key)
where u.session_no = named.session_no and u.key = named.key

-- name: delegate_keys
-- A parent's keys pass to its sub-tasks, as long as they are still the parent's.
update results r
set owner_no = named.owner_no
from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) as named (session_no, key, owner_no, parent_no)
where r.session_no = named.session_no and r.key = named.key and r.status = 1 and r.owner_no = named.parent_no

-- name: insert_tasks
-- Phase 5: the tasks, in the caller's order, which is by id, with payloads, states and counts. Tasks that exist
-- already are not counted; the caller then rolls back.
with new as materialized (
    select *
    from unnest(
            $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
            $7::integer[], $8::integer[], $9::smallint[], $10::text[], $11::bytea[], $12::text[])
        as new (task_no, session_no, options_no, id, outputs, dependencies,
                unmet, max_retries, priority, partition, payload, payload_key)
), created as (
    insert into tasks (task_no, session_no, options_no, payload_no, payload_key, id, expected_output_keys, data_dependencies)
    select task_no, session_no, options_no, case when payload_key is null then task_no end, payload_key,
           id, outputs::text[], dependencies::text[]
    from new
    on conflict do nothing
    returning task_no
), payloads as (
    insert into blobs (blob_no, size, data)
    select task_no, length(payload), payload from new where payload is not null
), placed as (
    insert into states (task_no, session_no, unmet, max_retries, priority, partition, outputs)
    select task_no, session_no, unmet, max_retries, priority, partition, cardinality(outputs::text[]) from new
), counted as (
    insert into session_counts (session_no, status, delta)
    select session_no, 1, count(*) from new group by session_no
    union all
    select session_no, -1, sum(length(payload)) from new group by session_no having sum(length(payload)) > 0
), logged as (
    insert into changes (session_no, kind, status, task_nos)
    select session_no, case unmet when 0 then 3 else 2 end as kind, 1, array_agg(task_no) from new group by session_no, 2
)
select count(*) from created

-- name: taken_ids
-- Which of the ids have a task, the caller's own included. Locks nothing; tasks_by_id.
select id, task_no from tasks where id = any($1::text[])

-- name: insert_objects
-- Links objects of the object store, and removes their notes from staged_objects.
with linked as (
    insert into blobs (blob_no, size, object, sha256)
    select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[])
    returning object
)
delete from staged_objects where name in (select object from linked)

-- name: insert_dependencies
insert into dependencies (session_no, key, task_no)
select * from unnest($1::bigint[], $2::text[], $3::bigint[])

-- name: existing_tasks
-- The bytes of a payload are those that came with the task; there are none where a result is the payload.
select t.id, t.session_no, t.options_no, t.expected_output_keys, t.data_dependencies, t.payload_key,
       b.data, b.size, b.sha256
from unnest($1::text[]) as asked (id)
join tasks t on t.id = asked.id
left join blobs b on b.blob_no = t.payload_no

-- name: intern_options
-- The number of a set of options, which is written unless it exists; null if the session has $8 sets already. No row if
-- the session was deleted: its row is locked, so that none is added to what a deletion looks at.
with session as materialized (
    select session_no from sessions where session_no = $1 for key share
), existing as (
    select options_no from options where session_no = $1 and digest = $2
), added as (
    insert into options (session_no, digest, max_duration_us, max_retries, priority, partition, options)
    select session_no, $2, $3, $4, $5, $6, $7 from session
    where not exists (select from existing) and (select count(*) from options where session_no = $1) < $8
    on conflict (session_no, digest) do update set priority = excluded.priority
    returning options_no
)
select (select options_no from existing union all select options_no from added limit 1) as options_no from session
