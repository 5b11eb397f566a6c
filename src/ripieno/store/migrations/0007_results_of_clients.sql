-- Results that no task makes: created, uploaded, imported and deleted by clients.

-- step: together
-- Of a result that a client created: the name by which people know it (not unique).
alter table results add column name text;
-- How many bytes a deleted result had; those that are there say so themselves (blobs).
alter table results add column size bigint;

-- step: together
-- Either payload_no, or the key of a result whose data is the payload: one of the task's inputs, which is counted
-- in states.unmet like a data dependency.
alter table tasks alter column payload_no drop not null;
alter table tasks add column payload_key text collate "C";

-- step: together
-- The last 20 digits of ids that the server makes for results, in blocks that a replica takes at once.
create sequence result_numbers increment by 1024;

-- CREATED results that no task owns: exactly those. A cancelled session aborts them, and must not look for them among
-- all results that tasks have made.
create table unowned_results (
    session_no bigint not null,
    key text collate "C" not null,
    primary key (session_no, key)
);

-- Uploads that are under way: streams of bytes for such results, which may break and be continued.
create table uploads (
    upload_id uuid primary key,
    session_no bigint not null,
    key text collate "C" not null,
    began_at timestamptz not null default now()
);
-- What of an upload has arrived: an object each, with its place in the upload. The objects are staged, and are garbage
-- as soon as the upload is complete, or is too old.
create table upload_parts (
    upload_id uuid not null,
    first_byte bigint not null,
    size bigint not null,
    object text not null,
    primary key (upload_id, first_byte)
);

-- step: together
-- Completes a result that no task owns with data that the caller has stored under blob_number. The caller holds the gate
-- shared, and promotes whoever waits.
-- Returns the status in which it was found (null: there is no such result), whether a task owns it or waits for it.
create function complete_unowned(
    session bigint, result_key text, blob_number bigint, bytes bigint,
    out status_before smallint, out owned boolean, out awaited boolean
) language plpgsql as $$
begin
    select r.status, r.owner_no is not null, r.awaited into status_before, owned, awaited
    from results r where r.session_no = session and r.key = result_key
    for no key update of r;
    if status_before = 1 and not exists (select from sessions s where s.session_no = session and s.status in (1, 2, 11)) then
        status_before := 11;  -- its session has ended, and somebody is about to abort it
    end if;
    if status_before = 1 and not owned then
        update results r set status = 10, blob_no = blob_number, ended_at = now()
        where r.session_no = session and r.key = result_key;
        delete from unowned_results u where u.session_no = session and u.key = result_key;
        insert into session_counts (session_no, status, delta)
        select session, -1, bytes where bytes > 0;
        insert into changes (session_no, kind, status, keys) values (session, 7, 10, array[result_key]);
    end if;
end $$;

-- Up to most of the results of a session that no task owns and nobody has uploaded are aborted. The caller holds the gate
-- exclusively. Returns their keys, and those for which tasks wait.
create function abort_unowned(session bigint, most integer, out aborted text[], out waited_for text[])
language plpgsql as $$
begin
    with taken as (
        delete from unowned_results u
        where u.session_no = session and u.key = any (array(
            select each.key from unowned_results each where each.session_no = session order by each.session_no, each.key limit most))
        returning u.key
    ), open as materialized (
        select found.place
        from taken
        cross join lateral (
            select r.ctid as place from results r
            where r.session_no = session and r.key = taken.key and r.status = 1 and r.owner_no is null
            limit 1
        ) as found
    ), cut_off as (
        update results r set status = 11, ended_at = now() from open where r.ctid = open.place
        returning r.key, r.awaited
    ), logged as (
        insert into changes (session_no, kind, status, keys)
        select session, 7, 11, array_agg(c.key) from cut_off c having count(*) > 0
    )
    select coalesce(array_agg(c.key), '{}'), coalesce(array_agg(c.key) filter (where c.awaited), '{}')
    into aborted, waited_for from cut_off c;
end $$;

-- Deletes the data of those of the results that are COMPLETED. The caller holds the gate exclusively.
--   most  how many of the session's waiting tasks are looked at: those of them that need the data are made to wait for it
--         again, and their cut is noted, so that none of them begins. A task that needs the data and is not among them, or is
--         held by an agent just now, fails when the data is fetched for it.
-- Returns the keys whose data was deleted, and whether a cut was noted.
create function delete_data(session bigint, keys text[], most integer, out deleted text[], out cuts boolean)
language plpgsql as $$
begin
    with held as materialized (
        select found.place, doomed.key, found.blob_no
        from (select distinct each collate "C" as key from unnest(keys) as each) as doomed
        cross join lateral (
            select r.ctid as place, r.blob_no from results r
            where r.session_no = session and r.key = doomed.key and r.status = 10
            limit 1
        ) as found
    ), gone as (
        delete from blobs b using held where b.blob_no = held.blob_no
        returning b.blob_no, b.size, b.object
    ), staged as (
        insert into staged_objects (name) select gone.object from gone where gone.object is not null
    ), counted as (
        insert into session_counts (session_no, status, delta)
        select session, -1, -sum(gone.size) from gone having sum(gone.size) > 0
    ), emptied as (
        update results r set status = 12, blob_no = null, size = gone.size
        from held join gone on gone.blob_no = held.blob_no
        where r.ctid = held.place
        returning r.key
    ), logged as (
        insert into changes (session_no, kind, status, keys)
        select session, 7, 12, array_agg(e.key) from emptied e having count(*) > 0
    )
    select coalesce(array_agg(e.key), '{}') into deleted from emptied e;

    with waiting as materialized (
        select s.task_no from states s
        where s.status = 1 and (s.session_no, s.task_no) >= (session, 0) and (s.session_no, s.task_no) < (session + 1, 0)
        order by s.session_no, s.task_no limit most
    ), needing as materialized (
        select w.task_no, t.data_dependencies || t.payload_key as needs
        from waiting w join tasks t on t.task_no = w.task_no
        where t.data_dependencies || t.payload_key && deleted
        order by w.task_no
    ), held as materialized (
        select s.task_no, n.needs from needing n join states s on s.task_no = n.task_no
        where coalesce(s.status, 0) = 1  -- "coalesce" as in promote (0002)
        for no key update of s
    ), wanted as materialized (
        -- Those who have not been told of the result yet wait for it still.
        select distinct h.task_no, need.key, exists (
            select from pending_promotions p
            where p.session_no = session and p.key = need.key and p.after_no < h.task_no) as waits
        from held h cross join lateral unnest(h.needs) as need (key)
        where need.key = any (deleted)
    ), waits_again as (
        update states s set unmet = s.unmet + again.keys
        from (select w.task_no, count(*)::integer as keys from wanted w where not w.waits group by w.task_no) as again
        where s.task_no = again.task_no
    ), noted as (
        insert into dependencies (session_no, key, task_no) select session, w.key, w.task_no from wanted w
        on conflict do nothing
    ), cut as (
        insert into pending_cuts (session_no, key, after_no)
        select session, doomed.key, 0
        from (
            select w.key from wanted w
            union select p.key from pending_promotions p where p.session_no = session and p.key = any (deleted)
        ) as doomed
        returning key
    )
    select exists (select from cut) into cuts;
    delete from pending_promotions p where p.session_no = session and p.key = any (deleted);
end $$;

-- As before; but tasks also fail because the data of an input was deleted, or because nobody uploaded it.
create or replace function cut_some(
    session bigint, most integer, ends_at timestamptz,
    out seen integer, out failed integer, out aborted text[], out finished boolean
) language plpgsql as $$
declare
    cut_nos bigint[];
    keys text[];
    after_nos bigint[];
    last_place integer;
    last_no bigint;
    all_looked_at boolean;
    seen_now integer;
    failed_now integer;
    aborted_now text[];
    awaited_now text[];
begin
    seen := 0;
    failed := 0;
    aborted := '{}';
    if exists (select from pending_cancellations c where c.session_no = session) then
        return;
    end if;
    finished := false;
    select array_agg(c.cut_no), array_agg(c.key), array_agg(c.after_no) into cut_nos, keys, after_nos
    from (select * from pending_cuts p where p.session_no = session order by p.session_no, p.cut_no limit 1000) as c;
    if keys is null then
        finished := true;
        return;
    end if;
    delete from pending_cuts c where c.session_no = session and c.cut_no = any (cut_nos);
    -- Each turn is one level of the graph, or as much of it as there is room for.
    while cardinality(keys) > 0 and seen < most and clock_timestamp() < ends_at loop
        with found as materialized (
            select cut.place, cut.key, d.task_no
            from unnest(keys, after_nos) with ordinality as cut (key, after_no, place)
            cross join lateral (
                select e.task_no from dependencies e
                where (e.session_no, e.key, e.task_no) > (session, cut.key collate "C", cut.after_no)
                  and (e.session_no, e.key) <= (session, cut.key collate "C")
                order by e.session_no, e.key, e.task_no
                limit most - seen
            ) as d
            limit most - seen
        ), weighed as materialized (
            select f.place, f.key, f.task_no, s.status, case when s.status = 1 then 1 + coalesce(s.outputs, 1) else 1 end as weight
            from found f join states s on s.task_no = f.task_no
        ), waiting as materialized (
            select * from (
                select w.*, sum(w.weight) over (order by w.place, w.task_no) - w.weight as before from weighed w
            ) as summed
            where summed.before < most - seen
        ), doomed as materialized (
            select distinct on (w.task_no) w.task_no, w.key from waiting w where w.status = 1 order by w.task_no, w.key
        ), ended as (
            update states s
            set status = 11, ended_at = now(), failed_input = why.failed_input, root_no = why.root_no, detail = why.detail
            from (
                -- What was deleted, or should have been uploaded, is no task's fault: that is where the reason arises.
                select d.task_no, reason.detail,
                       case when reason.detail is null then array_position(t.data_dependencies || t.payload_key, d.key) end
                           as failed_input,
                       case when reason.detail is null then coalesce(o.root_no, r.owner_no) end as root_no
                from doomed d
                join tasks t on t.task_no = d.task_no
                cross join lateral (
                    select each.owner_no, each.status from results each
                    where each.session_no = session and each.key = d.key limit 1
                ) as r
                cross join lateral (
                    select case when r.status = 12 then format('input %L is gone: its data was deleted', d.key)
                                when r.owner_no is null then format('input %L was aborted: nobody uploaded it', d.key)
                           end as detail
                ) as reason
                left join states o on o.task_no = r.owner_no
            ) as why
            where s.task_no = why.task_no
            returning s.task_no, s.retry
        ), owned as materialized (
            select own.place
            from doomed d
            join tasks t on t.task_no = d.task_no
            cross join lateral unnest(t.expected_output_keys) as expected (key)
            cross join lateral (
                select r.ctid as place from results r
                where r.session_no = session and r.key = expected.key and r.owner_no = t.task_no and r.status = 1
                limit 1
            ) as own
        ), cut_off as (
            update results r set status = 11, ended_at = now() from owned where r.ctid = owned.place
            returning r.key, r.awaited
        ), logged as (
            insert into changes (session_no, kind, status, task_nos, attempts, keys)
            select session, 4, 11, array_agg(e.task_no), case when max(e.retry) > 0 then array_agg(e.retry) end, null
            from ended e having count(*) > 0
            union all
            select session, 7, 11, null, null, array_agg(c.key) from cut_off c having count(*) > 0
        )
        select (select coalesce(sum(w.weight), 0) from waiting w),
               (select w.place from waiting w order by w.place desc, w.task_no desc limit 1),
               (select w.task_no from waiting w order by w.place desc, w.task_no desc limit 1),
               (select count(*) from found) < most - seen and (select count(*) from found) = (select count(*) from waiting),
               (select count(*) from ended),
               (select array_agg(c.key) from cut_off c),
               (select array_agg(c.key) from cut_off c where c.awaited)
        into seen_now, last_place, last_no, all_looked_at, failed_now, aborted_now, awaited_now;
        if all_looked_at then
            keys := '{}';
            after_nos := '{}';
        else  -- no more room: what is left begins with the last key, after the last dependent that was looked at
            keys := keys[last_place:];
            after_nos := last_no || after_nos[last_place + 1:];
        end if;
        if awaited_now is not null then
            keys := keys || awaited_now;
            after_nos := after_nos || array_fill(0::bigint, array[cardinality(awaited_now)]);
        end if;
        seen := seen + seen_now;
        failed := failed + failed_now;
        aborted := aborted || aborted_now;
    end loop;
    insert into pending_cuts (session_no, key, after_no)
    select session, rest.key, rest.after_no from unnest(keys, after_nos) as rest (key, after_no);
    if failed > 0 then
        insert into session_counts (session_no, status, delta)
        select session, change.status, change.sign * failed
        from (values (1::smallint, -1), (11::smallint, 1)) as change (status, sign);
    end if;
    finished := not exists (select from pending_cuts c where c.session_no = session);
end $$;

-- As before; but a dependency whose data was deleted is not met either.
create or replace function settle_needs(
    numbers bigint[], sessions_of bigint[], keys text[], key_places integer[], needs text[], need_places integer[]
) returns integer[] language plpgsql as $$
declare
    announced bigint;
    all_new boolean;
    held_sessions bigint[];
    held_keys text[];
    unmet_counts integer[];
begin
    with named as (
        select each.session_no, each.key, max(each.owner_no) as owner_no, bool_or(each.needed) as awaited
        from (
            select sessions_of[k.place], k.key collate "C", numbers[k.place], false
            from unnest(keys, key_places) as k (key, place)
            union all
            select sessions_of[n.place], n.key collate "C", null, true
            from unnest(needs, need_places) as n (key, place) where n.key is not null
        ) as each (session_no, key, owner_no, needed)
        group by each.session_no, each.key
        order by each.session_no, each.key
    ), inserted as (
        insert into results (session_no, key, owner_no, awaited, status)
        select named.session_no, named.key, named.owner_no, named.awaited,
               case when named.owner_no is null then 0 else 1 end
        from named
        on conflict do nothing
        returning owner_no
    )
    select count(inserted.owner_no), count(*) = (select count(*) from named)
    into announced, all_new
    from inserted;
    if announced <> cardinality(keys) then
        raise exception 'not plain: a key is named already' using errcode = 'RP001';
    end if;

    if all_new then  -- a graph in one call: there is nothing to hold and nothing to look up
        insert into dependencies (session_no, key, task_no)
        select sessions_of[n.place], n.key, numbers[n.place]
        from unnest(needs, need_places) as n (key, place) where n.key is not null;
        select array_agg(task.unmet order by task.place) into unmet_counts
        from (
            select n.place, count(n.key)::integer as unmet
            from unnest(needs, need_places) as n (key, place) group by n.place
        ) as task;
        return unmet_counts;
    end if;

    with needed as materialized (
        select distinct sessions_of[n.place] as session_no, n.key collate "C" as key
        from unnest(needs, need_places) as n (key, place) where n.key is not null
        order by 1, 2
    ), held as (
        select r.session_no, r.key, r.awaited
        from needed join results r on r.session_no = needed.session_no and r.key = needed.key
        where r.status < 10
        for no key update of r
    )
    select array_agg(held.session_no), array_agg(held.key) into held_sessions, held_keys
    from held where not held.awaited;

    update results r set awaited = true
    from unnest(held_sessions, held_keys) as held (session_no, key)
    where r.session_no = held.session_no and r.key = held.key;

    with waited as materialized (
        select n.place, sessions_of[n.place] as session_no, n.key, r.status
        from unnest(needs, need_places) as n (key, place)
        left join results r on r.session_no = sessions_of[n.place] and r.key = n.key
    ), waiting as (
        insert into dependencies (session_no, key, task_no)
        select waited.session_no, waited.key, numbers[waited.place] from waited where waited.status < 10
    )
    select array_agg(task.unmet order by task.place) into unmet_counts
    from (
        select waited.place, (count(*) filter (where waited.status < 10))::integer as unmet
        from waited
        group by waited.place
        having count(*) filter (where waited.status > 10) = 0
    ) as task;
    if cardinality(unmet_counts) is distinct from cardinality(numbers) then
        raise exception 'not plain: a dependency is aborted or deleted' using errcode = 'RP001';
    end if;
    return unmet_counts;
end $$;

-- As before; but the payload is an input too, where it is a result.
create or replace function retry_tasks(
    session bigint, numbers bigint[], options_nos bigint[], out retried bigint[], out claimable text[]
) language plpgsql as $$
begin
    if not exists (select from sessions n where n.session_no = session and n.status not in (10, 12)) then
        retried := '{}';
        claimable := '{}';
        return;
    end if;
    with fit as materialized (
        select s.task_no, s.status, o.options_no, o.options_no <> t.options_no as changed,
               o.max_retries, o.priority, o.partition, waiting.unmet
        from unnest(numbers, options_nos) as asked (task_no, options_no)
        join states s on s.task_no = asked.task_no
        join tasks t on t.task_no = asked.task_no
        join options o on o.options_no = coalesce(asked.options_no, t.options_no)
        left join lateral (
            select true as it
            from unnest(t.data_dependencies || t.payload_key) as needed (key)
            cross join lateral (
                select from results r
                where r.session_no = session and r.key = needed.key and r.status > 10
                limit 1
            ) as gone
            limit 1
        ) as missing on true
        cross join lateral (
            select count(*)::integer as unmet
            from (select distinct each.key from unnest(t.data_dependencies || t.payload_key) as each (key)) as needed
            cross join lateral (
                select from results r
                where r.session_no = session and r.key = needed.key
                  and (r.status < 10 or exists (
                      select from pending_promotions p
                      where p.session_no = session and p.key = needed.key and p.after_no < s.task_no))
                limit 1
            ) as open
        ) as waiting
        where s.session_no = session and s.status in (11, 12) and s.failed_input is null and missing.it is null
    ), earlier as (
        insert into earlier_attempts
            (task_no, retry, status, agent_no, claimed_at, started_at, ended_at, worker, detail)
        select s.task_no, s.retry, s.status, s.agent_no, s.claimed_at, s.started_at, s.ended_at, s.worker, s.detail
        from fit join states s on s.task_no = fit.task_no
    ), again as (
        update states s
        set status = 1, retry = s.retry + 1, unmet = fit.unmet,
            max_retries = least(s.retry + 1 + fit.max_retries::bigint, 2147483647),
            priority = fit.priority,
            partition = case when (select n.status from sessions n where n.session_no = session) = 2 then ' ' else fit.partition end,
            agent_no = null, claimed_at = null, started_at = null, ended_at = null, worker = null, detail = null
        from fit
        where s.task_no = fit.task_no
        returning s.task_no, s.partition, s.unmet, s.retry
    ), changed as (
        update tasks t set options_no = fit.options_no from fit where fit.changed and t.task_no = fit.task_no
    ), counted as (
        insert into session_counts (session_no, status, delta)
        select session, change.status, sum(change.sign)
        from fit cross join lateral (values (fit.status, -1), (1::smallint, 1)) as change (status, sign)
        group by change.status
    ), owned as materialized (
        select own.place
        from fit
        join tasks t on t.task_no = fit.task_no
        cross join lateral unnest(t.expected_output_keys) as expected (key)
        cross join lateral (
            select r.ctid as place from results r
            where r.session_no = session and r.key = expected.key and r.owner_no = t.task_no and r.status = 11
            limit 1
        ) as own
    ), opened as (
        update results r
        set status = 1, ended_at = null, awaited = exists (
            select from dependencies d where d.session_no = r.session_no and d.key = r.key)
        from owned where r.ctid = owned.place
        returning r.key, r.awaited
    ), uncut as (
        delete from pending_cuts c using opened where c.session_no = session and c.key = opened.key
    ), noted as (
        insert into pending_revivals (session_no, key, after_no)
        select session, opened.key, 0 from opened where opened.awaited
    ), logged as (
        insert into changes (session_no, kind, status, task_nos, attempts, keys)
        select session, 4, 1, array_agg(a.task_no), array_agg(a.retry), null::text[] from again a having count(*) > 0
        union all
        select session, 7, 1, null, null, array_agg(o.key) from opened o having count(*) > 0
    )
    select coalesce(array_agg(again.task_no), '{}'),
           coalesce(array_agg(distinct again.partition) filter (where again.unmet = 0 and again.partition <> ' '), '{}')
    into retried, claimable from again;
end $$;

create or replace function revive_some(
    session bigint, most integer, ends_at timestamptz,
    out seen integer, out revived integer, out claimable text[], out finished boolean
) language plpgsql as $$
declare
    revival_nos bigint[];
    keys text[];
    after_nos bigint[];
    last_place integer;
    last_no bigint;
    all_looked_at boolean;
    seen_now integer;
    revived_now integer;
    claimable_now text[];
    awaited_now text[];
begin
    seen := 0;
    revived := 0;
    claimable := '{}';
    finished := true;
    if not exists (select from sessions n where n.session_no = session and n.status not in (10, 12)) then
        delete from pending_revivals p where p.session_no = session;
        return;
    end if;
    select array_agg(r.revival_no), array_agg(r.key), array_agg(r.after_no) into revival_nos, keys, after_nos
    from (
        select * from pending_revivals p where p.session_no = session order by p.session_no, p.revival_no limit 1000
    ) as r;
    if keys is null then
        return;
    end if;
    delete from pending_revivals p where p.session_no = session and p.revival_no = any (revival_nos);
    -- Each turn is one level of the graph, or as much of it as there is room for.
    while cardinality(keys) > 0 and seen < most and clock_timestamp() < ends_at loop
        with found as materialized (
            select revival.place, d.task_no
            from unnest(keys, after_nos) with ordinality as revival (key, after_no, place)
            cross join lateral (
                select e.task_no from dependencies e
                where (e.session_no, e.key, e.task_no) > (session, revival.key collate "C", revival.after_no)
                  and (e.session_no, e.key) <= (session, revival.key collate "C")
                order by e.session_no, e.key, e.task_no
                limit most - seen
            ) as d
            limit most - seen
        ), weighed as materialized (
            -- A task that waits for several of these results is judged once. How many inputs it has is told by the size
            -- of their names, which is known without reading them.
            select f.place, f.task_no, s.failed_input is not null as failed,
                   case when s.failed_input is null or row_number() over (partition by f.task_no order by f.place) > 1 then 1
                        else 1 + coalesce(s.outputs, 1) + pg_column_size(t.data_dependencies) / 16 end as weight
            from found f
            join states s on s.task_no = f.task_no
            join tasks t on t.task_no = f.task_no
        ), looked_at as materialized (
            select * from (
                select w.*, sum(w.weight) over (order by w.place, w.task_no) - w.weight as before from weighed w
            ) as summed
            where summed.before < most - seen
        ), doubtful as materialized (
            select distinct l.task_no from looked_at l where l.failed order by l.task_no
        ), judged as materialized (
            select s.task_no, kept.it is null and other.place is null as revives,
                   other.place as failed_input, other.owner_no, waiting.unmet, o.partition
            from doubtful
            join states s on s.task_no = doubtful.task_no
            join tasks t on t.task_no = doubtful.task_no
            join options o on o.options_no = t.options_no
            left join lateral (
                select true as it from results r
                where r.session_no = session and r.key = (t.data_dependencies || t.payload_key)[s.failed_input] and r.status > 10
                limit 1
            ) as kept on true
            left join lateral (
                select needed.place, gone.owner_no
                from unnest(t.data_dependencies || t.payload_key) with ordinality as needed (key, place)
                cross join lateral (
                    select r.owner_no from results r
                    where r.session_no = session and r.key = needed.key and r.status > 10
                    limit 1
                ) as gone
                where kept.it is null
                limit 1
            ) as other on true
            cross join lateral (
                select count(*)::integer as unmet
                from (select distinct each.key from unnest(t.data_dependencies || t.payload_key) as each (key)) as needed
                cross join lateral (
                    select from results r
                    where r.session_no = session and r.key = needed.key
                      and (r.status < 10 or exists (
                          select from pending_promotions p
                          where p.session_no = session and p.key = needed.key and p.after_no < s.task_no))
                    limit 1
                ) as open
                where kept.it is null and other.place is null
            ) as waiting
        ), again as (
            update states s
            set status = 1, unmet = j.unmet, ended_at = null, failed_input = null, root_no = null,
                partition = case when (select n.status from sessions n where n.session_no = session) = 2 then ' ' else j.partition end
            from judged j
            where s.task_no = j.task_no and j.revives
            returning s.task_no, s.partition, s.unmet, s.retry
        ), explained as (
            update states s
            set failed_input = why.failed_input, root_no = why.root_no, detail = why.detail
            from (
                select j.task_no, reason.detail, case when reason.detail is null then j.failed_input end as failed_input,
                       case when reason.detail is null then coalesce(o.root_no, j.owner_no) end as root_no
                from judged j
                join tasks t on t.task_no = j.task_no
                cross join lateral (
                    select each.key, each.owner_no, each.status from results each
                    where each.session_no = session and each.key = (t.data_dependencies || t.payload_key)[j.failed_input] limit 1
                ) as r
                cross join lateral (
                    select case when r.status = 12 then format('input %L is gone: its data was deleted', r.key)
                                when r.owner_no is null then format('input %L was aborted: nobody uploaded it', r.key)
                           end as detail
                ) as reason
                left join states o on o.task_no = j.owner_no
                where j.failed_input is not null
            ) as why
            where s.task_no = why.task_no
        ), owned as materialized (
            select own.place
            from judged j
            join tasks t on t.task_no = j.task_no
            cross join lateral unnest(t.expected_output_keys) as expected (key)
            cross join lateral (
                select r.ctid as place from results r
                where r.session_no = session and r.key = expected.key and r.owner_no = t.task_no and r.status = 11
                limit 1
            ) as own
            where j.revives
        ), opened as (
            update results r
            set status = 1, ended_at = null, awaited = exists (
                select from dependencies d where d.session_no = r.session_no and d.key = r.key)
            from owned where r.ctid = owned.place
            returning r.key, r.awaited
        ), uncut as (
            delete from pending_cuts c using opened where c.session_no = session and c.key = opened.key
        ), logged as (
            insert into changes (session_no, kind, status, task_nos, attempts, keys)
            select session, 4, 1, array_agg(a.task_no), case when max(a.retry) > 0 then array_agg(a.retry) end, null::text[]
            from again a having count(*) > 0
            union all
            select session, 6, 1, array_agg(a.task_no), null::integer[], null::text[] from again a where a.unmet = 0 having count(*) > 0
            union all
            select session, 7, 1, null, null, array_agg(o.key) from opened o having count(*) > 0
        )
        select (select coalesce(sum(l.weight), 0) from looked_at l),
               (select l.place from looked_at l order by l.place desc, l.task_no desc limit 1),
               (select l.task_no from looked_at l order by l.place desc, l.task_no desc limit 1),
               (select count(*) from found) < most - seen and (select count(*) from found) = (select count(*) from looked_at),
               (select count(*) from again),
               (select array_agg(distinct a.partition) from again a where a.unmet = 0 and a.partition <> ' '),
               (select array_agg(o.key) from opened o where o.awaited)
        into seen_now, last_place, last_no, all_looked_at, revived_now, claimable_now, awaited_now;
        if all_looked_at then
            keys := '{}';
            after_nos := '{}';
        else  -- no more room: what is left begins with the last key, after the last dependent that was looked at
            keys := keys[last_place:];
            after_nos := last_no || after_nos[last_place + 1:];
        end if;
        if awaited_now is not null then
            keys := keys || awaited_now;
            after_nos := after_nos || array_fill(0::bigint, array[cardinality(awaited_now)]);
        end if;
        seen := seen + seen_now;
        revived := revived + revived_now;
        claimable := claimable || coalesce(claimable_now, '{}');
    end loop;
    insert into pending_revivals (session_no, key, after_no)
    select session, rest.key, rest.after_no from unnest(keys, after_nos) as rest (key, after_no);
    if revived > 0 then
        insert into session_counts (session_no, status, delta)
        select session, change.status, change.sign * revived
        from (values (11::smallint, -1), (1::smallint, 1)) as change (status, sign);
    end if;
    finished := not exists (select from pending_revivals p where p.session_no = session);
end $$;

-- As before; but results say how many bytes they had, and those that nobody has uploaded are aborted.
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
    select max(p.key), array_agg(p.blob_no) filter (where p.status = 12 and drops) into last_key, numbers from page p;
    perform drop_blobs(session, numbers);
    return last_key;
end $$;

-- As before; notes of results that nobody has uploaded go with the results.
create or replace function delete_rows(session bigint, most integer) returns bigint language plpgsql as $$
declare
    numbers bigint[];
    payloads bigint[];
    data_nos bigint[];
    others bigint;
    waits bigint;
begin
    select array_agg(page.task_no order by page.task_no), array_agg(page.payload_no) into numbers, payloads
    from (
        select t.task_no, t.payload_no from tasks t
        where (t.session_no, t.task_no) > (session, 0) and (t.session_no, t.task_no) <= (session, 9223372036854775807)
        order by t.session_no, t.task_no limit most
    ) as page;
    -- Starts and releases hold no gate: they lock states in the order of numbers, too.
    perform s.task_no
    from unnest(numbers) as gone (task_no) join states s on s.task_no = gone.task_no
    for update of s;
    delete from states s using unnest(numbers) as gone (task_no) where s.task_no = gone.task_no;
    delete from attempt_outputs o using unnest(numbers) as gone (task_no) where o.task_no = gone.task_no;
    delete from earlier_attempts e using unnest(numbers) as gone (task_no) where e.task_no = gone.task_no;
    delete from tasks t using unnest(numbers) as gone (task_no) where t.task_no = gone.task_no;
    perform drop_blobs(session, payloads);

    delete from unowned_results u
    where u.session_no = session and u.key = any (array(
        select each.key from unowned_results each where each.session_no = session
        order by each.session_no, each.key limit most));

    with page as materialized (
        select r.ctid as place from results r
        where (r.session_no, r.key) >= (session, '') and (r.session_no, r.key) < (session + 1, '')
        order by r.session_no, r.key limit most
    ), gone as (
        delete from results r using page p where r.ctid = p.place returning r.blob_no
    )
    select count(*), array_agg(g.blob_no) into others, data_nos from gone g;
    perform drop_blobs(session, data_nos);

    with page as materialized (
        select d.ctid as place from dependencies d
        where (d.session_no, d.key, d.task_no) >= (session, '', 0) and (d.session_no, d.key) < (session + 1, '')
        order by d.session_no, d.key, d.task_no limit most
    ), gone as (
        delete from dependencies d using page p where d.ctid = p.place returning d.task_no
    )
    select count(*) into waits from gone;
    return coalesce(cardinality(numbers), 0) + others + waits;
end $$;
