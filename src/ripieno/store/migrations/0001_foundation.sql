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
--   A reason is stored once, where it arose. A task that fails because an input was aborted says which one
--   (failed_input: its place in data_dependencies) and which task's own end was the first cause (root_no); the
--   text is put together when somebody asks for it (why_failed).
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
    failed_input integer,
    root_no bigint,
    status smallint not null default 1,
    priority smallint not null,
    partition text collate "C" not null,
    worker text,
    detail text,
    check ((claim is null) = (status not in (2, 3, 4)))
);
-- What may be claimed, in the order in which it is claimed.
create index states_claimable on states (partition, priority desc, task_no) where status = 1 and unmet = 0;
-- What nobody holds, claimable or not: for cancelling a session without reading its finished tasks, nor the
-- claimable ones of all others.
create index states_unclaimed on states (session_no, task_no) where status = 1;
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
-- Full pages: a result is completed with all others of its page, as a rule, so its second version goes to another
-- page, vacuum frees the first page as a whole, and new results get it. Pages that keep room for both versions (fill
-- factor 45) were never filled again: 190 bytes a result instead of 115, at the same cost a task (measured side by side).
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
    primary key (session_no, key)
);

-- Who waits for a key: only dependencies that were not COMPLETED when their task was submitted.
create table dependencies (
    session_no bigint not null,
    task_no bigint not null,
    key text collate "C" not null,
    primary key (session_no, key, task_no)
);

-- Cuts that are under way: aborted results whose dependents may still wait. A long cut is done in steps, each a
-- transaction of its own; what a step leaves to the next one survives a crash here.
create table pending_cuts (
    session_no bigint not null,
    cut_no bigint generated always as identity,
    key text collate "C" not null,
    -- Dependents up to this number are through.
    after_no bigint not null,
    primary key (session_no, cut_no)
);

-- Promotions that are under way: completed results for which very many tasks wait. They are promoted in steps; a task
-- that no step has reached waits for its input still.
create table pending_promotions (
    session_no bigint not null,
    promotion_no bigint generated always as identity,
    key text collate "C" not null,
    -- Dependents up to this number are through.
    after_no bigint not null,
    primary key (session_no, promotion_no)
);

-- Cancellations that are under way, step by step: of a whole session, or of some of its tasks. No cut is made in the
-- session meanwhile: what is to be cancelled is cancelled, and does not fail for want of an input that was cancelled
-- before it. Each step adds to steps; where that stands still the replica that worked on it is gone.
create table pending_cancellations (
    session_no bigint not null,
    cancellation uuid not null,
    whole_session boolean not null,
    steps bigint not null default 0,
    primary key (session_no, cancellation)
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

-- How many tasks of a session are in each status, and how many bytes of data it has stored (status -1):
-- the sum of all rows. Every transaction that changes them appends its differences, so no row is fought
-- over; a background statement folds them together.
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
-- Tables that only grow are vacuumed by what was added, not by a part of what there is.
alter table tasks set (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000);
alter table blobs set (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000);
alter table dependencies set (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000);
alter table earlier_attempts set (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000);
-- Plans are generic and go through indexes whatever the statistics say (ripieno.store.database.database), so
-- the hot tables need not be analysed at each tenth of growth (measured: 5 % of PostgreSQL's time).
alter table tasks set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table states set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table results set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table blobs set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);
alter table session_counts set (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 5000);


-- The plain case in one round trip: functions for submissions and commits that clash with
-- nothing. Whatever is not plain raises RP001 (or violates a unique index), changes nothing, and
-- is done again step by step, the careful way (ripieno.store.submitting.submission, ripieno.store.attempts.commit).
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
--   session_nos, stored     the gates: distinct, ascending; and how many bytes of payloads each session gets
--   options_nos .. payloads  one entry for each task, in the order of submission; outputs and
--                            dependencies are array literals
--   keys, key_places         every expected output, with the place of its task
--   needs, need_places       every distinct dependency likewise, and a null for each task that has
--                            none; both empty where no task has any
--   claimants, first_claim   empty and 0; or one agent for each task, none of which needs anything:
--                            they are claimed as they are created, by claims from first_claim on
-- Returns the numbers of tasks that were claimed.
create function submit_plain(
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

    insert into session_counts (session_no, status, delta)
    select new.session_no, at_birth, count(*) from unnest(sessions_of) as new (session_no) group by new.session_no
    union all
    select data.session_no, -1, data.size from unnest(session_nos, stored) as data (session_no, size)
    where data.size > 0;
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
--   session_nos, stored  the gates: distinct, ascending; and how many bytes of results each session gets
--   task_nos .. workers  one entry for each attempt
--   places .. blob_nos   one entry for each result, with the place of its attempt. Its blob is either among the
--                        inline_nos (with its data) or among the object_nos (with its name, size and digest, linked
--                        here and thereby no longer staged). An object that is not staged any more, or is linked
--                        already, is not plain.
-- Returns the partitions in which something has become claimable.
create function commit_plain(
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
-- for all. A task at zero is claimable from this commit on. Returns their partitions. So many that others
-- would feel it are not plain: they are promoted in steps (promote_some).
create function promote(session_nos bigint[], keys text[]) returns text[] language plpgsql as $$
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
        select s.task_no, met.keys from met join states s on s.task_no = met.task_no and s.status = 1
        order by met.task_no
        for no key update of s
    ), promoted as (
        update states s
        set unmet = s.unmet - held.keys
        from held
        where s.task_no = held.task_no
        returning s.partition, s.unmet
    )
    select array_agg(distinct promoted.partition) filter (where promoted.unmet = 0), (select count(*) from found)
    into claimable, promotions from promoted;
    if promotions = most then
        raise exception 'not plain: very many wait for these results' using errcode = 'RP001';
    end if;
    return coalesce(claimable, '{}');
end $$;

-- The same in steps, for any number of dependents: up to most of them at once, those of the first keys first. What
-- is left is noted (pending_promotions), and waits for its input until a later step. Nobody is added to those who
-- wait for a key that is completed, so the steps together promote whom one would.
--   session_nos .. after_nos  completed keys; dependents up to that number are through
-- Returns the partitions in which something has become claimable, and the sessions in which something is left.
create function promote_some(
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
        select s.task_no, met.keys from met join states s on s.task_no = met.task_no and s.status = 1
        order by met.task_no
        for no key update of s
    ), promoted as (
        update states s
        set unmet = s.unmet - held.keys
        from held
        where s.task_no = held.task_no
        returning s.partition, s.unmet
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

-- One step of what is left to promote in a session. Of two at a time the second one finds nothing to do.
create function promote_pending(session bigint, most integer, out partitions text[], out unfinished bigint[])
language plpgsql as $$
declare
    keys text[];
    after_nos bigint[];
begin
    perform enter_gates(array[session]);
    with taken as (
        delete from pending_promotions p
        where p.session_no = session and p.promotion_no = any (array(
            select each.promotion_no from pending_promotions each
            where each.session_no = session order by each.session_no, each.promotion_no limit 1000))
        returning p.promotion_no, p.key, p.after_no
    )
    select array_agg(taken.key order by taken.promotion_no), array_agg(taken.after_no order by taken.promotion_no)
    into keys, after_nos from taken;
    partitions := '{}';
    if keys is not null then
        select step.partitions into partitions
        from promote_some(array_fill(session, array[cardinality(keys)]), keys, after_nos, most) as step;
    end if;
    unfinished := array(select distinct p.session_no from pending_promotions p where p.session_no = session);
end $$;

-- Cuts. An aborted result fails whoever waits for it, which aborts that task's results, and so on down the graph.
-- The cut may be long: its first step is taken by the transaction that aborts something, if nobody else is in the
-- session just then; what is left is noted, and done in further steps (ripieno.store.graph.cuts). A task that waits for an
-- aborted result is never claimable meanwhile: such an input is never met.

-- The last phase of whoever has aborted results that somebody waits for: note them, and take the first step.
--   session_nos .. after_nos  the aborted keys; dependents up to that number need not be looked at
-- The rest, and what it returns, is as in cut_sessions.
create function begin_cuts(session_nos bigint[], keys text[], after_nos bigint[], most integer, within_ms integer)
returns table (of_session bigint, failed integer, aborted text[], finished boolean) language plpgsql as $$
begin
    insert into pending_cuts (session_no, key, after_no)
    select noted.session_no, noted.key, noted.after_no
    from unnest(session_nos, keys, after_nos) as noted (session_no, key, after_no)
    join sessions s on s.session_no = noted.session_no and s.status = 1;
    return query select * from cut_sessions(session_nos, most, within_ms);
end $$;

-- A step in each session in which nobody else is: whoever is would have to be waited for.
--   most, within_ms  bounds of all steps together: tasks and results to look at, and milliseconds
-- Returns for each session how many tasks have failed, the keys that were aborted, and whether its cuts are finished
-- (null while a cancellation is under way in it, at whose end they go on).
create function cut_sessions(session_nos bigint[], most integer, within_ms integer)
returns table (of_session bigint, failed integer, aborted text[], finished boolean) language plpgsql as $$
declare
    ends_at constant timestamptz := clock_timestamp() + within_ms * interval '1 millisecond';
    room integer := most;
    seen integer;
begin
    for of_session in select distinct each from unnest(session_nos) as each order by each loop
        failed := 0;
        aborted := '{}';
        finished := false;
        if room > 0 and clock_timestamp() < ends_at and pg_try_advisory_xact_lock(of_session) then
            select step.seen, step.failed, step.aborted, step.finished into seen, failed, aborted, finished
            from cut_some(of_session, room, ends_at) as step;
            room := room - seen;
        end if;
        return next;
    end loop;
end $$;

-- One step of the cuts of a session, whose gate the caller holds exclusively.
--   most     tasks and results to look at, about: at least one task is looked at, with all its results
--   ends_at  no level of the graph is begun after that
create function cut_some(
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
            returning s.task_no
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

-- Cancel those of the tasks that are in one of the statuses (of 1, 2 and 3). The caller holds the gates of their
-- sessions exclusively. Claims and releases hold no gate, so this waits for those under way.
--   cuts  whether dependents are to fail; not where the whole session is being cancelled
-- Returns the sessions in which a task was cancelled, for each aborted result its session and key, those of the
-- sessions that have something to cut, and each attempt to be interrupted.
create function cancel_numbered(
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
        returning s.task_no, s.session_no, s.status, s.claim, s.agent_no
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
