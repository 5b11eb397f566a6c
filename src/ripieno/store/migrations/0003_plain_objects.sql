-- The plain commit, with results that lie in the object store too: each of ``keys`` has its blob either among the
-- ``inline_nos`` (with its ``data``) or among the ``object_nos`` (with its name, size and digest, linked here and
-- thereby no longer staged). An object that is not staged any more, or is linked already, is not plain.
create function commit_plain(
    session_nos bigint[],
    task_nos bigint[], claims bigint[], sessions_of bigint[], started_at_us bigint[], workers text[],
    places integer[], keys text[], blob_nos bigint[],
    inline_nos bigint[], data bytea[],
    object_nos bigint[], objects text[], sizes bigint[], sha256s bytea[]
) returns text[] language plpgsql as $$
declare
    attempts bigint;
    expected bigint;
    completed bigint;
    linked bigint;
    awaited_sessions bigint[];
    awaited_keys text[];
begin
    perform enter_gates(session_nos);
    with held as materialized (
        select s.ctid as place, s.status, attempt.started_at_us, attempt.worker
        from (
            select * from unnest(task_nos, claims, sessions_of, started_at_us, workers)
                as each (task_no, claim, session_no, started_at_us, worker)
            order by each.task_no
        ) as attempt
        join states s on s.task_no = attempt.task_no and s.claim is not distinct from attempt.claim
        where s.status in (2, 3) and s.session_no = attempt.session_no
        for no key update of s
    ), ended as (
        update states s
        set status = 10, claim = null, ended_at = now(),
            worker = coalesce(nullif(held.worker, ''), s.worker),
            started_at = coalesce(to_timestamp(nullif(held.started_at_us, 0) / 1e6), s.started_at)
        from held
        where s.ctid = held.place
        returning s.session_no, held.status, s.outputs
    ), counted as (
        insert into session_counts (session_no, status, delta)
        select ended.session_no, change.status, change.sign * count(*)
        from ended cross join lateral (values (ended.status, -1), (10::smallint, 1)) as change (status, sign)
        group by ended.session_no, change.status, change.sign
    )
    select count(*), coalesce(sum(coalesce(ended.outputs, 1000000000)), 0) into attempts, expected from ended;

    with done as (
        update results r
        set status = 10, blob_no = produced.blob_no, ended_at = now()
        from (
            select sessions_of[each.place] as session_no, each.key, task_nos[each.place] as owner_no, each.blob_no
            from unnest(places, keys, blob_nos) as each (place, key, blob_no)
            order by 1, each.key collate "C"
        ) as produced
        where r.session_no = produced.session_no and r.key = produced.key
          and r.owner_no = produced.owner_no and r.status = 1
        returning r.session_no, r.key, r.awaited
    )
    select count(*), array_agg(done.session_no) filter (where done.awaited), array_agg(done.key) filter (where done.awaited)
    into completed, awaited_sessions, awaited_keys
    from done;
    if attempts <> cardinality(task_nos) or completed <> cardinality(keys) or expected <> completed then
        raise exception 'not plain: an attempt is not owned, or its results are not what was expected'
            using errcode = 'RP001';
    end if;

    insert into blobs (blob_no, size, data)
    select each.blob_no, length(each.data), each.data from unnest(inline_nos, data) as each (blob_no, data);
    if cardinality(object_nos) > 0 then
        with named as (
            insert into blobs (blob_no, size, object, sha256)
            select * from unnest(object_nos, sizes, objects, sha256s)
            returning object
        ), taken as (
            delete from staged_objects where name in (select named.object from named) returning name
        )
        select count(*) into linked from taken;
        if linked <> cardinality(object_nos) then
            raise exception 'not plain: an object is gone' using errcode = 'RP001';
        end if;
    end if;

    if awaited_keys is null then
        return '{}';
    end if;
    return promote(awaited_sessions, awaited_keys);
end $$;

-- As replicas of the release before call it.
create or replace function commit_plain(
    session_nos bigint[],
    task_nos bigint[], claims bigint[], sessions_of bigint[], started_at_us bigint[], workers text[],
    places integer[], keys text[], blob_nos bigint[], data bytea[]
) returns text[] language plpgsql as $$
begin
    return commit_plain(
        session_nos, task_nos, claims, sessions_of, started_at_us, workers, places, keys, blob_nos, blob_nos, data,
        '{}', '{}', '{}', '{}');
end $$;
