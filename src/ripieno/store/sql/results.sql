-- name: next_block
-- The first number of a block of 1024 (the increment of the sequence), for ids of results.
select nextval('result_numbers') as first

-- name: session_status
-- The gate of the session is held.
select status from sessions where session_no = $1

-- name: create_results
-- Results of a session that no task owns; those with a blob are COMPLETED. The caller sorts them by key, and checks how many
-- were written: a key that somebody has named before is left alone. Objects are linked by a statement of their own.
with new as materialized (
    select * from unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])
        as new (key, name, blob_no, data, size)
), stored as (
    insert into blobs (blob_no, size, data) select blob_no, size, data from new where data is not null
), open as (
    insert into unowned_results (session_no, key) select $1, key from new where blob_no is null
), counted as (
    insert into session_counts (session_no, status, delta)
    select $1, -1, sum(size) from new having sum(size) > 0
), logged as (
    insert into changes (session_no, kind, status, keys)
    select $1, 7, case when blob_no is null then 1 else 10 end, array_agg(key) from new group by blob_no is null
)
insert into results (session_no, key, name, blob_no, status, ended_at)
select $1, key, name, blob_no, case when blob_no is null then 1 else 10 end, case when blob_no is not null then now() end
from new
on conflict do nothing

-- name: complete_unowned
select * from complete_unowned($1::bigint, $2::text, $3::bigint, $4::bigint)

-- name: insert_blob
insert into blobs (blob_no, size, data) values ($1, length($2::bytea), $2::bytea)

-- name: data_of
-- What is stored for a result.
select b.size, b.data, b.object, b.sha256
from results r join blobs b on b.blob_no = r.blob_no
where r.session_no = $1 and r.key = $2

-- name: find
-- A result without its data, and who owns it.
select r.status, r.name, t.id as owner_id, coalesce(r.size, b.size) as size, b.object, b.sha256
from results r
left join tasks t on t.task_no = r.owner_no
left join blobs b on b.blob_no = r.blob_no
where r.session_no = $1 and r.key = $2

-- name: delete_data
select * from delete_data($1::bigint, $2::text[], $3::integer)

-- name: note_part
-- A part of an upload that is durable in the object store, and the upload itself with its first part. A place that
-- another stream has filled before is left alone: then nothing is returned.
with begun as (
    insert into uploads (upload_id, session_no, key) values ($1, $2, $3)
    on conflict (upload_id) do nothing
)
insert into upload_parts (upload_id, first_byte, size, object) values ($1, $4, $5, $6)
on conflict (upload_id, first_byte) do nothing
returning first_byte

-- name: upload_parts
-- An upload and its parts, in order. Those of uploads that began $2 ago or more are given up: the garbage collection
-- may have begun to delete them.
select u.session_no, u.key, p.first_byte, p.size, p.object
from uploads u join upload_parts p on p.upload_id = u.upload_id
where u.upload_id = $1 and u.began_at > now() - $2::interval
order by p.upload_id, p.first_byte

-- name: end_upload
-- Drops what is noted of an upload, whose objects are garbage from now on; returns their names.
with ended as (
    delete from uploads where upload_id = $1
)
delete from upload_parts where upload_id = $1 returning object

-- name: forget_uploads
-- Uploads that nobody has completed within a day; their objects are collected like all that nothing links to.
with old as (
    select upload_id from uploads where began_at < now() - interval '1 day' limit 100
), ended as (
    delete from uploads u using old where u.upload_id = old.upload_id
)
delete from upload_parts p using old where p.upload_id = old.upload_id returning p.upload_id

-- name: lock_object
-- One import of an object at a time, until the transaction ends. (Two numbers: gates are locks of one.)
select pg_advisory_xact_lock(6, hashtext($1))

-- name: link_import
-- Links an object that others have put into the store, unless something links it already, or has linked it and given
-- it up: then nothing is returned.
insert into blobs (blob_no, size, object, sha256)
select $1::bigint, $2::bigint, $3::text, $4::bytea
where not exists (select from blobs b where b.object = $3) and not exists (select from staged_objects g where g.name = $3)
returning blob_no
