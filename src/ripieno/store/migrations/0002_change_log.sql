-- The log of changes: what each transaction has changed, for those who follow sessions (ripieno.store.changelog).
--
-- Each function and statement that changes the status of a session, a task or a result appends to it, in the same
-- transaction, and after it has locked what it changes: of two rows about one task, the one with the lower number was
-- committed first. Readers compare snapshots, not numbers: a row is read once, by whoever sees it and did not before,
-- however the transactions that appended crossed.

-- One row for what a transaction did in a session at once. By kind:
--   1  the session is in `status`
--   2  tasks were created, and wait for dependencies; their expected outputs are theirs from now on, and CREATED
--   3  the same, without anything to wait for
--   4  tasks are in `status`, under these attempt numbers (null: all 0)
--   5  tasks are COMPLETED, and so are all of their expected outputs that were still theirs. Their attempts are the
--      latest that they have, and stay it: nothing follows on a completed one
--   6  tasks wait for no dependency any more
--   7  results are in `status`
create table changes (
    change_no bigint generated always as identity,
    transaction xid8 not null default pg_current_xact_id(),
    session_no bigint not null,
    made_at timestamptz not null default now(),
    kind smallint not null,
    status smallint not null,
    task_nos bigint[],
    attempts integer[],
    keys text[]
);
create index changes_by_transaction on changes (transaction);
-- Rows are read once or twice while they are young, and leave in the order in which they came.
alter table changes set (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
                         autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);

-- Snapshots of the database from time to time: whoever is far behind reads from one to the next, so that no batch is
-- long; and whole stretches between two are dropped when they are too old or too many.
create table change_marks (
    mark_no bigint generated always as identity primary key,
    snapshot pg_snapshot not null,
    made_at timestamptz not null default now(),
    -- Of the rows that this snapshot sees and the one before does not.
    bytes bigint not null
);

-- What was visible to this snapshot may have been dropped from the log.
alter table cluster add column changes_dropped pg_snapshot;


-- The functions of the plain case, which log what they do, and are otherwise what they were.
-- But for promotions: "coalesce" keeps the planner from going through the index of waiting tasks from end to end for each
-- task that is promoted. That index looks small to it when little waited the last time it looked, and it did so beside
-- 100,000 waiting tasks: commits took two seconds.

create or replace function submit_plain(
    session_nos bigint[], stored bigint[],
    options_nos bigint[], ids text[], outputs text[], dependencies text[], output_counts integer[], payloads bytea[],
    keys text[], key_places integer[], needs text[], need_places integer[],
    claimants bigint[], first_claim bigint
) returns bigint[] language plpgsql as $$
declare
    at_birth constant smallint := case when cardinality(claimants) = 0 then 1 else 2 end;
    numbers bigint[];
    sessions_of bigint[];
    retries integer[];
    priorities smallint[];
    partitions text[];
    unmet_counts integer[];
    claims bigint[] := '{}';
    claimed_at timestamptz;
    taken bigint[] := '{}';
begin
    perform enter_gates(session_nos);
    if exists (select from sessions s where s.session_no = any (session_nos) and s.status <> 1) then
        raise exception 'not plain: a session is cancelled' using errcode = 'RP001';
    end if;
    select array_agg(each.task_no), array_agg(each.session_no), array_agg(each.max_retries),
           array_agg(each.priority), array_agg(each.partition)
    into numbers, sessions_of, retries, priorities, partitions
    from (
        select nextval('task_numbers') as task_no, o.session_no, o.max_retries, o.priority, o.partition
        from unnest(options_nos) with ordinality as task (options_no, place)
        join options o on o.options_no = task.options_no
        order by task.place
    ) as each;

    if cardinality(needs) = 0 then
        insert into results (session_no, key, owner_no, status)
        select sessions_of[named.place], named.key, numbers[named.place], 1
        from unnest(keys, key_places) as named (key, place)
        order by 1, named.key collate "C";
        unmet_counts := array_fill(0, array[cardinality(ids)]);
    else
        unmet_counts := settle_needs(numbers, sessions_of, keys, key_places, needs, need_places);
    end if;

    insert into tasks (task_no, session_no, options_no, payload_no, id, expected_output_keys, data_dependencies)
    select new.task_no, new.session_no, new.options_no, new.task_no, new.id,
           new.outputs::text[], new.dependencies::text[]
    from unnest(numbers, sessions_of, options_nos, ids, outputs, dependencies)
        as new (task_no, session_no, options_no, id, outputs, dependencies)
    order by new.id collate "C";

    insert into blobs (blob_no, size, data)
    select new.task_no, length(new.payload), new.payload from unnest(numbers, payloads) as new (task_no, payload);

    if cardinality(claimants) > 0 then
        claims := array(select first_claim + place from generate_series(1, cardinality(claimants)) as place);
        claimed_at := now();
        taken := numbers;
    end if;
    insert into states (task_no, session_no, unmet, max_retries, priority, partition, outputs,
                        agent_no, claim, status, claimed_at)
    select new.*, at_birth, claimed_at
    from unnest(numbers, sessions_of, unmet_counts, retries, priorities, partitions, output_counts, claimants, claims)
        as new;
    if cardinality(session_nos) = 1 and cardinality(needs) = 0 then  -- as a rule: nothing to sort apart
        insert into changes (session_no, kind, status, task_nos) values (session_nos[1], 3, 1, numbers);
    else
        insert into changes (session_no, kind, status, task_nos)
        select new.session_no, case new.unmet when 0 then 3 else 2 end, 1, array_agg(new.task_no)
        from unnest(numbers, sessions_of, unmet_counts) as new (task_no, session_no, unmet)
        group by 1, 2;
    end if;
    if cardinality(claimants) > 0 then
        insert into changes (session_no, kind, status, task_nos)
        select new.session_no, 4, 2, array_agg(new.task_no)
        from unnest(numbers, sessions_of) as new (task_no, session_no)
        group by 1;
    end if;

    insert into session_counts (session_no, status, delta)
    select new.session_no, at_birth, count(*) from unnest(sessions_of) as new (session_no) group by new.session_no
    union all
    select data.session_no, -1, data.size from unnest(session_nos, stored) as data (session_no, size)
    where data.size > 0;
    return taken;
end $$;

create or replace function commit_plain(
    session_nos bigint[], stored bigint[],
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
        union all
        select data.session_no, -1, data.size from unnest(session_nos, stored) as data (session_no, size)
        where data.size > 0
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
    if cardinality(session_nos) = 1 then  -- as a rule: nothing to sort apart
        insert into changes (session_no, kind, status, task_nos) values (session_nos[1], 5, 10, task_nos);
    else
        insert into changes (session_no, kind, status, task_nos)
        select each.session_no, 5, 10, array_agg(each.task_no)
        from unnest(sessions_of, task_nos) as each (session_no, task_no)
        group by each.session_no;
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

create or replace function promote(session_nos bigint[], keys text[]) returns text[] language plpgsql as $$
declare
    most constant integer := 3000;
    claimable text[];
    promotions bigint;
begin
    with found as materialized (
        select d.task_no
        from unnest(session_nos, keys) as completed (session_no, key)
        join dependencies d on d.session_no = completed.session_no and d.key = completed.key
        limit most
    ), met as materialized (
        select f.task_no, count(*)::integer as keys from found f group by f.task_no order by f.task_no
    ), held as materialized (
        select s.task_no, met.keys from met join states s on s.task_no = met.task_no and coalesce(s.status, 0) = 1
        order by met.task_no
        for no key update of s
    ), promoted as (
        update states s
        set unmet = s.unmet - held.keys
        from held
        where s.task_no = held.task_no
        returning s.task_no, s.session_no, s.partition, s.unmet
    ), logged as (
        insert into changes (session_no, kind, status, task_nos)
        select promoted.session_no, 6, 1, array_agg(promoted.task_no)
        from promoted where promoted.unmet = 0 group by promoted.session_no
    )
    select array_agg(distinct promoted.partition) filter (where promoted.unmet = 0), (select count(*) from found)
    into claimable, promotions from promoted;
    if promotions = most then
        raise exception 'not plain: very many wait for these results' using errcode = 'RP001';
    end if;
    return coalesce(claimable, '{}');
end $$;

create or replace function promote_some(
    session_nos bigint[], keys text[], after_nos bigint[], most integer, out partitions text[], out unfinished bigint[]
) language plpgsql as $$
declare
    promotions bigint;
    last_place integer;
    last_no bigint;
begin
    unfinished := '{}';
    with found as materialized (
        select completed.place, d.task_no
        from unnest(session_nos, keys, after_nos) with ordinality as completed (session_no, key, after_no, place)
        cross join lateral (
            select e.task_no from dependencies e
            where (e.session_no, e.key, e.task_no) > (completed.session_no, completed.key collate "C", completed.after_no)
              and (e.session_no, e.key) <= (completed.session_no, completed.key collate "C")
            order by e.session_no, e.key, e.task_no
            limit most
        ) as d
        limit most
    ), met as materialized (
        select f.task_no, count(*)::integer as keys from found f group by f.task_no order by f.task_no
    ), held as materialized (
        select s.task_no, met.keys from met join states s on s.task_no = met.task_no and coalesce(s.status, 0) = 1
        order by met.task_no
        for no key update of s
    ), promoted as (
        update states s
        set unmet = s.unmet - held.keys
        from held
        where s.task_no = held.task_no
        returning s.task_no, s.session_no, s.partition, s.unmet
    ), logged as (
        insert into changes (session_no, kind, status, task_nos)
        select promoted.session_no, 6, 1, array_agg(promoted.task_no)
        from promoted where promoted.unmet = 0 group by promoted.session_no
    )
    select (select count(*) from found), coalesce(array_agg(distinct promoted.partition) filter (where promoted.unmet = 0), '{}'),
           (select f.place from found f order by f.place desc, f.task_no desc limit 1),
           (select f.task_no from found f order by f.place desc, f.task_no desc limit 1)
    into promotions, partitions, last_place, last_no from promoted;
    if promotions = most then
        with noted as (
            insert into pending_promotions (session_no, key, after_no)
            select completed.session_no, completed.key, case completed.place when last_place then last_no else completed.after_no end
            from unnest(session_nos, keys, after_nos) with ordinality as completed (session_no, key, after_no, place)
            where completed.place >= last_place
            returning session_no
        )
        select array_agg(distinct noted.session_no) into unfinished from noted;
    end if;
end $$;

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
            set status = 11, ended_at = now(), failed_input = why.failed_input, root_no = why.root_no
            from (
                select d.task_no, array_position(t.data_dependencies, d.key) as failed_input,
                       coalesce(o.root_no, r.owner_no) as root_no
                from doomed d
                join tasks t on t.task_no = d.task_no
                cross join lateral (
                    select each.owner_no from results each where each.session_no = session and each.key = d.key limit 1
                ) as r
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

create or replace function cancel_numbered(
    numbers bigint[], statuses smallint[], cuts boolean,
    out sessions bigint[], out aborted_sessions bigint[], out aborted_keys text[], out cut_in bigint[],
    out held_nos bigint[], out held_sessions bigint[], out held_claims bigint[], out held_agents bigint[]
) language plpgsql as $$
declare
    locked_nos bigint[];
    sessions_of bigint[];
    statuses_before smallint[];
begin
    with locked as (
        select s.task_no, s.session_no, s.status
        from (select each from unnest(numbers) as each order by each) as asked
        join states s on s.task_no = asked.each
        where s.status = any (statuses)
        for no key update of s
    )
    select array_agg(l.task_no), array_agg(l.session_no), array_agg(l.status)
    into locked_nos, sessions_of, statuses_before from locked l;
    -- A statement of its own, with a snapshot taken after the wait: PostgreSQL checks constraints on the version that
    -- the snapshot sees, before it finds that there is a later one.
    with ended as (
        update states s
        set status = case s.status when 1 then 13 else 4 end, ended_at = case s.status when 1 then now() end
        from unnest(locked_nos) as locked (task_no)
        where s.task_no = locked.task_no
        returning s.task_no, s.session_no, s.status, s.claim, s.agent_no, s.retry
    ), counted as (
        insert into session_counts (session_no, status, delta)
        select locked.session_no, change.status, sum(change.sign)
        from unnest(sessions_of, statuses_before) as locked (session_no, before)
        cross join lateral (
            values (locked.before, -1), (case locked.before when 1 then 13::smallint else 4::smallint end, 1)
        ) as change (status, sign)
        group by locked.session_no, change.status
    ), owned as materialized (
        select own.place
        from unnest(locked_nos) as locked (task_no)
        join tasks t on t.task_no = locked.task_no
        cross join lateral unnest(t.expected_output_keys) as expected (key)
        cross join lateral (
            select r.ctid as place from results r
            where r.session_no = t.session_no and r.key = expected.key and r.owner_no = t.task_no and r.status = 1
            limit 1
        ) as own
    ), cut_off as (
        update results r set status = 11, ended_at = now() from owned where r.ctid = owned.place
        returning r.session_no, r.key, r.awaited
    ), logged as (
        insert into changes (session_no, kind, status, task_nos, attempts, keys)
        select e.session_no, 4, e.status, array_agg(e.task_no), case when max(e.retry) > 0 then array_agg(e.retry) end, null
        from ended e group by e.session_no, e.status
        union all
        select c.session_no, 7, 11, null, null, array_agg(c.key) from cut_off c group by c.session_no
    ), noted as (
        insert into pending_cuts (session_no, key, after_no)
        select c.session_no, c.key, 0 from cut_off c where c.awaited and cuts
        returning session_no
    ), interrupted as materialized (
        select * from ended where ended.status = 4
    )
    select array(select distinct e.session_no from ended e),
           array(select c.session_no from cut_off c), array(select c.key from cut_off c),
           array(select distinct n.session_no from noted n),
           array(select i.task_no from interrupted i), array(select i.session_no from interrupted i),
           array(select i.claim from interrupted i), array(select i.agent_no from interrupted i)
    into sessions, aborted_sessions, aborted_keys, cut_in, held_nos, held_sessions, held_claims, held_agents;
end $$;
