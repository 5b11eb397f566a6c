-- Retention: sessions that ended long ago are purged, and deleted.

-- step: together
-- As before; but a page that is not full is known to be the last one, so that a small session takes one turn of each kind.
create or replace function purge_results(session bigint, after_key text, most integer, drops boolean) returns text
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
        where r.ctid = p.place and p.status = 10 and not drops
        returning r.key
    ), logged as (
        insert into changes (session_no, kind, status, keys)
        select session, 7, 12, array_agg(p.key) from purged p having count(*) > 0
    )
    select case when count(*) = most then max(p.key) end, array_agg(p.blob_no) filter (where p.status = 12 and drops) into last_key, numbers from page p;
    perform drop_blobs(session, numbers);
    return last_key;
end $$;

create or replace function purge_payloads(session bigint, after_no bigint, most integer) returns bigint language plpgsql as $$
declare
    last_no bigint;
    numbers bigint[];
begin
    select case when count(*) = most then max(page.task_no) end, array_agg(page.payload_no) into last_no, numbers
    from (
        select t.task_no, t.payload_no from tasks t
        where (t.session_no, t.task_no) > (session, after_no)
          and (t.session_no, t.task_no) <= (session, 9223372036854775807)
        order by t.session_no, t.task_no limit most
    ) as page;
    perform drop_blobs(session, numbers);
    return last_no;
end $$;

-- step: alone
-- Sessions that are closed, cancelled or purged, by the time at which they were seen without unfinished tasks.
create index concurrently sessions_ended on sessions (ended_at) where status >= 10;
