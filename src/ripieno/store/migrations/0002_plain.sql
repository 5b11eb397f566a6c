-- The plain case in one round trip: functions for submissions and commits that clash with
-- nothing. Whatever is not plain raises RP001 (or violates a unique index), changes nothing, and
-- is done again step by step, the careful way (ripieno.store.submission, ripieno.store.commit).
--
-- Both climb the ladder of locks of ripieno.store. Each statement of a function has a snapshot of
-- its own, so what follows a gate or a lock sees what was committed before it was granted.
-- Later migrations add functions under new names rather than change what these mean: replicas
-- of the release before go on calling them while a cluster is being upgraded.

-- How many results a task is expected to make: the commit checks that it made them all
-- without reading the task. Null where a replica of the release before has written the row: such
-- a task is never plain.
alter table states add column outputs integer;
update states s set outputs = cardinality(t.expected_output_keys) from tasks t where t.task_no = s.task_no;

-- A row takes room once for each of its two versions: at 60 a third of the updates did not find
-- it on the page of the first (measured: 1 us a commit).
alter table results set (fillfactor = 45);

-- Plans are generic and go through indexes whatever the statistics say (ripieno.store.database), so
-- the hot tables need not be analysed at each tenth of growth (measured: 5 % of PostgreSQL's time).
alter table tasks set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table states set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table results set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table blobs set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table session_counts set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);

-- Phase 1.
create function enter_gates(session_nos bigint[]) returns void language plpgsql as $$
begin
    for place in 1 .. cardinality(session_nos) loop
        perform pg_advisory_xact_lock_shared(session_nos[place]);
    end loop;
end $$;

-- Tasks whose ids and keys are all new, of sessions that run, with inline payloads; dependencies
-- may exist already as long as they are not aborted.
--   session_nos             the gates: distinct, ascending
--   options_nos .. payloads  one entry for each task, in the order of submission; outputs and
--                            dependencies are array literals
--   keys, key_places         every expected output, with the place of its task
--   needs, need_places       every distinct dependency likewise, and a null for each task that has
--                            none; both empty where no task has any
--   claimants, first_claim   empty and 0; or one agent for each task, none of which needs anything:
--                            they are claimed as they are created, by claims from first_claim on
-- Returns the numbers of tasks that were claimed.
create function submit_plain(
    session_nos bigint[],
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

    insert into session_counts (session_no, status, delta)
    select new.session_no, at_birth, count(*) from unnest(sessions_of) as new (session_no) group by new.session_no;
    return taken;
end $$;

-- Phases 3 and 4 where tasks depend on something: announce the new keys, hold the dependencies,
-- and note who waits for what. Returns for each task how many dependencies are not COMPLETED.
create function settle_needs(
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
        having count(*) filter (where waited.status = 11) = 0
    ) as task;
    if cardinality(unmet_counts) is distinct from cardinality(numbers) then
        raise exception 'not plain: a dependency is aborted' using errcode = 'RP001';
    end if;
    return unmet_counts;
end $$;

-- Attempts that completed with inline results for all of their expected outputs.
--   session_nos          the gates: distinct, ascending
--   task_nos .. workers  one entry for each attempt
--   places .. data       one entry for each result, with the place of its attempt
-- Returns the partitions in which something has become claimable.
create function commit_plain(
    session_nos bigint[],
    task_nos bigint[], claims bigint[], sessions_of bigint[], started_at_us bigint[], workers text[],
    places integer[], keys text[], blob_nos bigint[], data bytea[]
) returns text[] language plpgsql as $$
declare
    attempts bigint;
    expected bigint;
    completed bigint;
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
    select each.blob_no, length(each.data), each.data from unnest(blob_nos, data) as each (blob_no, data);

    if awaited_keys is null then
        return '{}';
    end if;
    return promote(awaited_sessions, awaited_keys);
end $$;

-- Phase 6: whoever waited for these keys waits for as many less; in order of task number, the same
-- for all. A task at zero is claimable from this commit on. Returns their partitions.
create function promote(session_nos bigint[], keys text[]) returns text[] language plpgsql as $$
declare
    claimable text[];
begin
    with promoted as (
        update states s
        set unmet = s.unmet - met.keys
        from (
            select d.task_no, count(*)::integer as keys
            from unnest(session_nos, keys) as completed (session_no, key)
            join dependencies d on d.session_no = completed.session_no and d.key = completed.key
            group by d.task_no
            order by d.task_no
        ) as met
        where s.task_no = met.task_no and s.status = 1
        returning s.partition, s.unmet
    )
    select array_agg(distinct promoted.partition) into claimable from promoted where promoted.unmet = 0;
    return coalesce(claimable, '{}');
end $$;
