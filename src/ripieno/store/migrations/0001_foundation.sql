-- The foundation: sessions, tasks, results, dependencies, agents, stored data, and the functions of the plain case.
--
-- Numbers of statuses are those of ripieno.domain.statuses; a final status is >= 10.
-- Ids and keys compare by bytes (collate "C"): the same order as in Python, and the
-- one global order in which rows are locked.
-- There are no foreign keys on the hot tables: each check would cost a look-up and a row
-- lock a task. The statements of this package keep the references, all inside the
-- transaction that creates both ends; nothing is deleted but whole sessions.

-- One row: what all replicas of this cluster must agree on.
create table cluster (
    only_row boolean primary key default true check (only_row),
    cluster_id uuid not null default gen_random_uuid(),
    -- Replaced when the database may have gone back in time: what replicas remember is valid for one value.
    incarnation uuid not null default gen_random_uuid(),
    objects text,
    created_at timestamptz not null default now()
);
insert into cluster default values;

create sequence task_numbers;
-- A payload has the number of its task. Results' data is numbered from 2^62 upwards, out of
-- their way, in blocks that a replica takes at once: order means nothing there.
create sequence blob_numbers start with 4611686018427387904 increment by 1024;

create table sessions (
    session_no bigint generated always as identity primary key,
    id text collate "C" not null unique,
    status smallint not null default 1,
    default_options_no bigint not null,
    created_at timestamptz not null default now(),
    cancelled_at timestamptz
);

-- Task options, once for each distinct value in a session.
create table options (
    options_no bigint generated always as identity primary key,
    session_no bigint not null,
    digest bytea not null,
    max_duration_us bigint not null check (max_duration_us > 0),
    max_retries integer not null check (max_retries >= 0),
    priority smallint not null check (priority between 1 and 99),
    partition text collate "C" not null,
    options jsonb not null,
    unique (session_no, digest)
);

-- What a task is. Never changes once it is written, so its random text ids are put
-- into an index once and not again at each step of the task's life.
create table tasks (
    task_no bigint primary key,
    session_no bigint not null,
    options_no bigint not null,
    payload_no bigint not null,
    submitted_at timestamptz not null default now(),
    id text collate "C" not null,
    expected_output_keys text[] not null,
    data_dependencies text[] not null
);
create unique index tasks_by_id on tasks (id);
create index tasks_by_session on tasks (session_no, task_no);

-- Where a task is in its life: one narrow row a task, updated at each step.
--   claim is set exactly while an agent holds the task (DISPATCHED, PROCESSING, CANCELLING).
--   unmet counts the distinct data dependencies that are not COMPLETED yet.
--   The times, agent and worker are those of the latest attempt; earlier ones are below.
create table states (
    task_no bigint primary key,
    session_no bigint not null,
    claim bigint,
    agent_no bigint,
    claimed_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    unmet integer not null,
    retry integer not null default 0,
    max_retries integer not null,
    -- How many results the task is expected to make: the commit checks that it made them all without reading
    -- the task. Null: not known, so that its commit is never plain.
    outputs integer,
    status smallint not null default 1,
    priority smallint not null,
    partition text collate "C" not null,
    worker text,
    detail text,
    check ((claim is null) = (status not in (2, 3, 4)))
);
-- What may be claimed, in the order in which it is claimed.
create index states_claimable on states (partition, priority desc, task_no) where status = 1 and unmet = 0;
-- What waits for dependencies (for cancelling a session without reading its finished tasks).
create index states_waiting on states (session_no, task_no) where status = 1 and unmet > 0;
-- What is held by an agent.
create index states_held on states (agent_no, task_no) where claim is not null;
-- What is being cancelled: little at any time, and asked for each second.
create index states_cancelling on states (session_no, agent_no) where status = 4;

-- Attempts that were followed by another one. The latest stands in states.
create table earlier_attempts (
    task_no bigint not null,
    retry integer not null,
    status smallint not null,
    agent_no bigint,
    claimed_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    worker text,
    detail text,
    primary key (task_no, retry)
);

-- Results. A key that some task depends on but no task has announced has a row too
-- (status 0, no owner), so that there is something to lock.
-- Half-full pages: completing a result changes no indexed column and stays on its page. A row takes room
-- once for each of its two versions: at 60 a third of the updates did not find it (measured: 1 us a commit).
create table results (
    session_no bigint not null,
    owner_no bigint,
    blob_no bigint,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    status smallint not null,
    -- Somebody waits for it: set while the row is locked, before anything can complete it.
    awaited boolean not null default false,
    key text collate "C" not null,
    reason text,
    primary key (session_no, key)
) with (fillfactor = 45);

-- Who waits for a key: only dependencies that were not COMPLETED when their task was submitted.
create table dependencies (
    session_no bigint not null,
    task_no bigint not null,
    key text collate "C" not null,
    primary key (session_no, key, task_no)
);

-- Payloads and results: small ones inline, large ones by name in the object store.
-- Insert-only. Not compressed: it costs more time than it saves room here.
create table blobs (
    blob_no bigint primary key,
    size bigint not null,
    data bytea,
    object text,
    sha256 bytea,
    check ((data is null) <> (object is null))
);
create index blobs_by_object on blobs (object) where object is not null;
alter table blobs alter column data set storage external;

-- Objects written but not yet linked by a blob. Linking removes the row; what stays
-- here for long is garbage in the object store.
create table staged_objects (
    name text primary key,
    created_at timestamptz not null default now()
);

create table agents (
    agent_no bigint generated always as identity primary key,
    agent_id uuid not null unique,
    name text not null,
    slots integer not null,
    partitions text[] not null,
    version text not null,
    connected_at timestamptz not null default now(),
    -- Which of the agent's connections is the latest: it grows with each, through whichever replica.
    epoch bigint not null default 0,
    -- Grows with each renewal of the lease: an observer judges by its own monotonic clock when it last did.
    renewals bigint not null default 0,
    -- The replica it is connected to: that replica's session holds an advisory lock of this number while it lives.
    replica integer not null default 0,
    -- For people, and for forgetting who has been gone for long. Nobody is lost by a wall clock.
    lease_until timestamptz not null
);

-- How many tasks of a session are in each status: the sum of all rows. Every
-- transaction that changes statuses appends its differences, so no row is fought over;
-- a background statement folds them together.
create table session_counts (
    session_no bigint not null,
    status smallint not null,
    delta bigint not null
);
create index session_counts_by_session on session_counts (session_no);

-- Every attempt of every task, the latest included once it has begun.
create view attempts as
    select task_no, retry, status, agent_no, claimed_at, started_at, ended_at, worker, detail
    from earlier_attempts
    union all
    select task_no, retry, status, agent_no, claimed_at, started_at, ended_at, worker, detail
    from states
    where claimed_at is not null;

-- Vacuum: where rows die, soon and without pauses.
alter table states set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
alter table session_counts set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
alter table results set (autovacuum_vacuum_cost_delay = 0);
-- Plans are generic and go through indexes whatever the statistics say (ripieno.store.database), so
-- the hot tables need not be analysed at each tenth of growth (measured: 5 % of PostgreSQL's time).
alter table tasks set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table states set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table results set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table blobs set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table session_counts set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);


-- The plain case in one round trip: functions for submissions and commits that clash with
-- nothing. Whatever is not plain raises RP001 (or violates a unique index), changes nothing, and
-- is done again step by step, the careful way (ripieno.store.submission, ripieno.store.commit).
--
-- Both climb the ladder of locks of ripieno.store. Each statement of a function has a snapshot of
-- its own, so what follows a gate or a lock sees what was committed before it was granted.
-- Later migrations add functions under new names rather than change what these mean: replicas
-- of the release before go on calling them while a cluster is being upgraded.

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

-- Attempts that completed with results for all of their expected outputs.
--   session_nos          the gates: distinct, ascending
--   task_nos .. workers  one entry for each attempt
--   places .. blob_nos   one entry for each result, with the place of its attempt. Its blob is either among the
--                        inline_nos (with its data) or among the object_nos (with its name, size and digest, linked
--                        here and thereby no longer staged). An object that is not staged any more, or is linked
--                        already, is not plain.
-- Returns the partitions in which something has become claimable.
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
