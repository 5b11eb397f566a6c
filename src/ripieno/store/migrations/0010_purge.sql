-- Purging in one pass: a result has its data to itself.

-- Up to "most" results after a key, of a session that was purged: they become DELETED, and their data goes.
-- Returns the last key that was looked at; null if there is none behind it.
create function purge_page(session bigint, after_key text, most integer) returns text
language plpgsql as $$
declare
    last_key text;
    numbers bigint[];
begin
    perform abort_unowned(session, most);
    with page as materialized (
        select r.ctid as place, r.key, r.status, r.blob_no from results r
        where (r.session_no, r.key) > (session, after_key collate "C") and (r.session_no, r.key) < (session + 1, '')
        order by r.session_no, r.key limit most
    ), purged as (
        update results r set status = 12, size = (select b.size from blobs b where b.blob_no = p.blob_no)
        from page p
        where r.ctid = p.place and p.status = 10
        returning r.key
    ), logged as (
        insert into changes (session_no, kind, status, keys)
        select session, 7, 12, array_agg(p.key) from purged p having count(*) > 0
    )
    select case when count(*) = most then max(p.key) end, array_agg(p.blob_no) filter (where p.status in (10, 12)) into last_key, numbers from page p;
    perform drop_blobs(session, numbers);
    return last_key;
end $$;
