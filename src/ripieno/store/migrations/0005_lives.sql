-- The whole life of a session: paused, closed, purged, deleted; and submission that is stopped.

-- Statuses of a session are those of ripieno.domain.statuses: 1 RUNNING, 2 PAUSED, 10 CANCELLED, 11 CLOSED, 12 PURGED.
-- The status and the two flags change under the session's gate, held exclusively, and are never cached.
alter table sessions
    add column client_submission boolean not null default true,
    add column worker_submission boolean not null default true,
    add column closed_at timestamptz,
    add column purged_at timestamptz,
    -- When a closed or cancelled session was first seen without unfinished tasks.
    add column ended_at timestamptz;

-- Work on all tasks, or all data, of a session that a step of its life began, and that is done in short transactions.
-- A session has one at most: the next step of its life replaces it. Each transaction adds to steps; where that
-- stands still the replica that worked on it is gone, and another one goes on.
create table pending_sweeps (
    session_no bigint primary key,
    sweep uuid not null,
    kind text not null check (kind in ('park', 'unpark', 'purge', 'delete')),
    steps bigint not null default 0
);

-- Sessions that were deleted. Their ids may not come back for a year; their rows go in short transactions.
create table deleted_sessions (
    session_no bigint primary key,
    id text collate "C" not null,
    deleted_at timestamptz not null default now()
);
create index deleted_sessions_by_id on deleted_sessions (id);

-- Creates a session with its default options; null if the id is taken, or was within the last year.
create function create_session(
    new_id text, digest bytea, max_duration_us bigint, max_retries integer, priority smallint, partition text, free jsonb
) returns bigint language plpgsql as $$
declare
    number bigint;
    default_no bigint;
begin
    -- The session and its default options refer to each other, so both numbers are taken first.
    insert into sessions (session_no, id, default_options_no) overriding system value
    values (nextval(pg_get_serial_sequence('sessions', 'session_no')), new_id,
            nextval(pg_get_serial_sequence('options', 'options_no')))
    on conflict (id) do nothing
    returning sessions.session_no, sessions.default_options_no into number, default_no;
    if number is null then
        return null;
    end if;
    -- A statement of its own: its snapshot was taken after the wait for a transaction that deletes a session of that id.
    if exists (
        select from deleted_sessions gone where gone.id = new_id and gone.deleted_at > now() - interval '1 year'
    ) then
        delete from sessions s where s.session_no = number;
        return null;
    end if;
    insert into options
        (options_no, session_no, digest, max_duration_us, max_retries, priority, partition, options)
        overriding system value
    values (default_no, number, digest, max_duration_us, max_retries, priority, partition, free);
    insert into changes (session_no, kind, status) values (number, 1, 1);
    return number;
end $$;

-- As before, but a session that is not there any more is not plain either, nor one that takes no tasks of clients.
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
    if (select count(*) from sessions s where s.session_no = any (session_nos) and s.status = 1 and s.client_submission)
            <> cardinality(session_nos) then
        raise exception 'not plain: a session is not there, does not run, or takes no tasks' using errcode = 'RP001';
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

-- As before: cuts are made in every session but a cancelled one.
create or replace function begin_cuts(session_nos bigint[], keys text[], after_nos bigint[], most integer, within_ms integer)
returns table (of_session bigint, failed integer, aborted text[], finished boolean) language plpgsql as $$
begin
    insert into pending_cuts (session_no, key, after_no)
    select noted.session_no, noted.key, noted.after_no
    from unnest(session_nos, keys, after_nos) as noted (session_no, key, after_no)
    join sessions s on s.session_no = noted.session_no and s.status <> 10;
    return query select * from cut_sessions(session_nos, most, within_ms);
end $$;

-- Parked tasks. While a session is paused, its tasks that an agent may be given, now or later, stand under a partition
-- that no agent serves: a blank, which is no name. Promotions, retries, cuts and cancellations go on as ever.

-- Park those of the tasks that are unfinished, or put them back under the partitions of their options. The caller holds
-- the gate of their session exclusively. Claims and releases hold no gate, so this waits for those under way.
-- Returns the partitions in which something has become claimable.
create function park_numbered(numbers bigint[], parks boolean) returns text[] language plpgsql as $$
declare
    locked_nos bigint[];
    claimable text[];
begin
    with locked as (
        select s.task_no
        from (select each from unnest(numbers) as each order by each) as asked
        join states s on s.task_no = asked.each
        where s.status in (1, 2, 3)
        for no key update of s
    )
    select array_agg(l.task_no) into locked_nos from locked l;
    -- A statement of its own, as in cancel_numbered.
    with moved as (
        update states s
        set partition = case when parks then ' ' else own.partition end
        from (
            select locked.task_no, o.partition
            from unnest(locked_nos) as locked (task_no)
            join tasks t on t.task_no = locked.task_no
            join options o on o.options_no = t.options_no
        ) as own
        where s.task_no = own.task_no and (s.partition = ' ') <> parks
        returning s.partition, s.status, s.unmet
    )
    select array_agg(distinct m.partition) filter (where m.status = 1 and m.unmet = 0) into claimable from moved m;
    return case when parks then '{}' else coalesce(claimable, '{}') end;
end $$;

-- As before; what is retried, or revived, in a paused session is parked, and stands under the partition of its options
-- in any other: a task that failed while its session was paused was parked then.
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
            from unnest(t.data_dependencies) as needed (key)
            cross join lateral (
                select from results r
                where r.session_no = session and r.key = needed.key and r.status > 10
                limit 1
            ) as gone
            limit 1
        ) as missing on true
        cross join lateral (
            select count(*)::integer as unmet
            from (select distinct each.key from unnest(t.data_dependencies) as each (key)) as needed
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
            select f.place, f.task_no, s.failed_input is not null as failed,
                   case when s.failed_input is null then 1
                        else 1 + coalesce(s.outputs, 1) + cardinality(t.data_dependencies) end as weight
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
                where r.session_no = session and r.key = t.data_dependencies[s.failed_input] and r.status > 10
                limit 1
            ) as kept on true
            left join lateral (
                select needed.place, gone.owner_no
                from unnest(t.data_dependencies) with ordinality as needed (key, place)
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
                from (select distinct each.key from unnest(t.data_dependencies) as each (key)) as needed
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
            set failed_input = why.failed_input, root_no = why.root_no
            from (
                select j.task_no, j.failed_input, coalesce(o.root_no, j.owner_no) as root_no
                from judged j
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

-- Steps of the deletion of data, and of rows; the caller holds the session's gate exclusively.

-- Delete these blobs, and count what the session has stored less. Objects that lose their last blob are noted, for
-- collection. Returns how many blobs there were.
create function drop_blobs(session bigint, numbers bigint[]) returns bigint language plpgsql as $$
declare
    dropped bigint;
begin
    with gone as (
        delete from blobs b where b.blob_no = any (numbers) returning b.size, b.object
    ), staged as (
        insert into staged_objects (name)
        select distinct g.object from gone g
        where g.object is not null
          and not exists (select from blobs o where o.object = g.object and o.blob_no <> all (numbers))
        on conflict do nothing
    ), counted as (
        insert into session_counts (session_no, status, delta)
        select session, -1, -sum(g.size) from gone g having sum(g.size) > 0
    )
    select count(*) into dropped from gone;
    return dropped;
end $$;

-- Up to "most" results after a key, of a session that was purged. First all become DELETED, then their blobs go: no
-- result is ever COMPLETED without data, also where several have one blob.
-- Returns the last key that was looked at; null if there is none left.
create function purge_results(session bigint, after_key text, most integer, drops boolean) returns text
language plpgsql as $$
declare
    last_key text;
    numbers bigint[];
begin
    with page as materialized (
        select r.ctid as place, r.key, r.status, r.blob_no from results r
        where (r.session_no, r.key) > (session, after_key collate "C") and (r.session_no, r.key) < (session + 1, '')
        order by r.session_no, r.key limit most
    ), purged as (
        update results r set status = 12
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

-- Up to "most" tasks after a number, of a session that was purged: their payloads are deleted.
-- Returns the last number that was looked at; null if there is none left.
create function purge_payloads(session bigint, after_no bigint, most integer) returns bigint language plpgsql as $$
declare
    last_no bigint;
    numbers bigint[];
begin
    select max(page.task_no), array_agg(page.payload_no) into last_no, numbers
    from (
        select t.task_no, t.payload_no from tasks t
        where (t.session_no, t.task_no) > (session, after_no)
          and (t.session_no, t.task_no) <= (session, 9223372036854775807)
        order by t.session_no, t.task_no limit most
    ) as page;
    perform drop_blobs(session, numbers);
    return last_no;
end $$;

-- Up to "most" tasks, results and dependencies of a session that was deleted. Returns how many there were: 0 when
-- nothing is left but its options and the differences of its counts, which go last.
create function delete_rows(session bigint, most integer) returns bigint language plpgsql as $$
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
