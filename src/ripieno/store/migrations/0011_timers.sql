-- Timers: tasks that do not start before some time, and tasks that are ended at their deadline.

-- step: together
-- One row for each time that a task waits for. By kind:
--   1  the task does not start before that time: the row counts as one of the task's unmet dependencies
--   2  the task's deadline. Once the task has ended the row means nothing; it goes when the time comes
-- Times are those of the database's clock. Most tasks have no row.
-- Whoever adds to a task's timers, or takes them away, holds the gate of its session (the gate is exclusive wherever a
-- final task comes to wait again). Rows are locked, without waiting for any, before states.
create table timers (
    task_no bigint not null,
    kind smallint not null check (kind in (1, 2)),
    session_no bigint not null,
    due_at timestamptz not null,
    primary key (task_no, kind)
);
-- With nothing else in it, or the planner of a small table would look for tasks in this index, too, from end to end.
create index timers_due on timers (due_at);
-- Rows come and go at the same end of the index: soon vacuumed.
alter table timers set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- What options say of times (keys and texts as in ripieno.domain.timers, which checks them before they are stored). A
-- text that a release stored before the keys had a meaning counts as none.
create function seconds_of(value text) returns double precision language sql immutable as $$
    select case when value ~ '^[0-9]{1,9}([.][0-9]{1,9})?$' then value::double precision end
$$;

-- When a task that is submitted now, or waits again from now on, starts at the earliest. Null: at once.
create function start_of(free jsonb) returns timestamptz language sql stable as $$
    select now() + nullif(seconds_of(free ->> 'ripieno.delay'), 0) * interval '1 second'
$$;

-- The deadline of a task that is submitted now, or waits again from now on. Null: it has none.
create function deadline_of(free jsonb) returns timestamptz language sql stable as $$
    select case
        when free ->> 'ripieno.deadline' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$'
            then (free ->> 'ripieno.deadline')::timestamptz
        else now() + seconds_of(free ->> 'ripieno.deadline') * interval '1 second' end
$$;

-- How long a task waits before its next attempt, when so many attempts have failed since it was submitted, or since
-- somebody asked for a retry. Null: it does not. A sum of logarithms, since a power of a large number is out of range.
create function delay_before_attempt(free jsonb, failed integer) returns interval language sql volatile as $$
    select exp(least(ln(r.first_s) + (r.failed - 1) * ln(r.factor), ln(r.most_s))) * (1 - r.jitter * random()) * interval '1 second'
    from (
        select seconds_of(free ->> 'ripieno.retry.first_delay') as first_s,
               greatest(coalesce(seconds_of(free ->> 'ripieno.retry.factor'), 2), 1) as factor,
               greatest(coalesce(seconds_of(free ->> 'ripieno.retry.max_delay'), 999999999), 0.000001) as most_s,
               least(coalesce(seconds_of(free ->> 'ripieno.retry.jitter'), 0), 1) as jitter,
               greatest(failed, 1) as failed
    ) as r
    where r.first_s > 0
$$;

-- One step of the timers of these sessions that are due, with the gates shared, beside submissions and commits. Tasks
-- that waited for their time wait for it no more, as if a dependency were completed. Deadlines of tasks that have
-- ended are dropped, also where all of the session is being cancelled.
--   session_nos  distinct, ascending
--   most         timers of each kind to look at
-- Returns how many timers went, the partitions and sessions in which tasks came to be claimable or wait for less, and the
-- sessions in which a deadline of an unfinished task has passed: see expire_tasks.
create function fire_timers(
    session_nos bigint[], most integer,
    out fired bigint, out partitions text[], out promoted_in bigint[], out expiring bigint[]
) language plpgsql as $$
declare
    dropped bigint;
begin
    perform enter_gates(session_nos);
    with due as materialized (
        select i.ctid as place, i.task_no from timers i
        where i.kind = 1 and i.due_at <= now() and i.session_no = any (session_nos)
        order by i.due_at limit most
        for update skip locked
    ), met as materialized (
        select d.task_no from due d order by d.task_no
    ), held as materialized (
        select s.task_no from met join states s on s.task_no = met.task_no
        where coalesce(s.status, 0) = 1  -- "coalesce" as in promote (0002)
        order by met.task_no
        for no key update of s
    ), promoted as (
        update states s set unmet = s.unmet - 1 from held where s.task_no = held.task_no
        returning s.task_no, s.session_no, s.partition, s.unmet
    ), gone as (
        delete from timers i using due d where i.ctid = d.place
    ), logged as (
        insert into changes (session_no, kind, status, task_nos)
        select p.session_no, 6, 1, array_agg(p.task_no) from promoted p where p.unmet = 0 group by p.session_no
    )
    select (select count(*) from due),
           coalesce(array_agg(distinct p.partition) filter (where p.unmet = 0 and p.partition <> ' '), '{}'),
           coalesce(array_agg(distinct p.session_no), '{}')
    into fired, partitions, promoted_in from promoted p;

    with due as materialized (
        select i.ctid as place, i.task_no from timers i
        where i.kind = 2 and i.due_at <= now() and i.session_no = any (session_nos)
        order by i.due_at limit most
        for update skip locked
    ), judged as materialized (
        select d.place, n.session_no from due d
        left join states s on s.task_no = d.task_no and coalesce(s.status, 0) in (1, 2, 3)
        left join sessions n on n.session_no = s.session_no and n.status not in (10, 12)
    ), gone as (
        delete from timers i using judged j where i.ctid = j.place and j.session_no is null
        returning i.task_no
    )
    select (select count(*) from gone), coalesce(array_agg(distinct j.session_no) filter (where j.session_no is not null), '{}')
    into dropped, expiring from judged j;
    fired := fired + dropped;
end $$;

-- End tasks whose deadline has passed: those that wait are in TIMEOUT; those that an agent holds are CANCELLING, with the
-- reason in their detail, by which they end in TIMEOUT when the agent has let go. The caller holds the gates of the sessions
-- exclusively. Claims and releases hold no gate, so this waits for those under way.
--   most  tasks and results to look at, about: at least one task is ended
-- Returns what cancel_numbered does; no cut is made by this itself.
create function expire_tasks(
    session_nos bigint[], most integer,
    out ended_in bigint[], out aborted_sessions bigint[], out aborted_keys text[], out cut_in bigint[],
    out held_nos bigint[], out held_sessions bigint[], out held_claims bigint[], out held_agents bigint[]
) language plpgsql as $$
declare
    locked_nos bigint[];
    sessions_of bigint[];
    statuses_before smallint[];
    details text[];
begin
    with due as materialized (
        select i.task_no, i.due_at from timers i
        where i.kind = 2 and i.due_at <= now() and i.session_no = any (session_nos)
        order by i.due_at limit most
    ), weighed as materialized (
        select d.task_no, d.due_at,
               sum(1 + coalesce(s.outputs, 1)) over (order by d.due_at, d.task_no) - 1 - coalesce(s.outputs, 1) as before
        from due d
        join states s on s.task_no = d.task_no and coalesce(s.status, 0) in (1, 2, 3)
        join sessions n on n.session_no = s.session_no and n.status not in (10, 12)
    ), locked as (
        select s.task_no, s.session_no, s.status, asked.due_at
        from (select w.task_no, w.due_at from weighed w where w.before < most order by w.task_no) as asked
        join states s on s.task_no = asked.task_no
        where s.status in (1, 2, 3)
        for no key update of s
    )
    select array_agg(l.task_no), array_agg(l.session_no), array_agg(l.status),
           array_agg(format('its deadline (%s) passed while it %s',
                            to_char(l.due_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                            case l.status when 1 then 'waited' when 2 then 'was dispatched' else 'ran' end))
    into locked_nos, sessions_of, statuses_before, details from locked l;
    -- A statement of its own, as in cancel_numbered.
    with ended as (
        update states s
        set status = case s.status when 1 then 12 else 4 end, ended_at = case s.status when 1 then now() end,
            detail = locked.detail
        from unnest(locked_nos, details) as locked (task_no, detail)
        where s.task_no = locked.task_no
        returning s.task_no, s.session_no, s.status, s.claim, s.agent_no, s.retry
    ), counted as (
        insert into session_counts (session_no, status, delta)
        select locked.session_no, change.status, sum(change.sign)
        from unnest(sessions_of, statuses_before) as locked (session_no, before)
        cross join lateral (
            values (locked.before, -1), (case locked.before when 1 then 12::smallint else 4::smallint end, 1)
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
        select c.session_no, c.key, 0 from cut_off c where c.awaited
        returning session_no
    ), gone as (
        delete from timers i using unnest(locked_nos) as locked (task_no) where i.task_no = locked.task_no
    ), interrupted as materialized (
        select * from ended where ended.status = 4
    )
    select array(select distinct e.session_no from ended e),
           array(select c.session_no from cut_off c), array(select c.key from cut_off c),
           array(select distinct n.session_no from noted n),
           array(select i.task_no from interrupted i), array(select i.session_no from interrupted i),
           array(select i.claim from interrupted i), array(select i.agent_no from interrupted i)
    into ended_in, aborted_sessions, aborted_keys, cut_in, held_nos, held_sessions, held_claims, held_agents;
end $$;

-- As retry_tasks before, for tasks with timers too: their deadline counts anew, and they start at once.
--   delayed  the delay of their options counts anew, too
-- Returns also whether one of them may have a timer.
create function retry_timed_tasks(
    session bigint, numbers bigint[], options_nos bigint[], delayed boolean,
    out retried bigint[], out claimable text[], out timed boolean
) language plpgsql as $$
begin
    if not exists (select from sessions n where n.session_no = session and n.status not in (10, 12)) then
        retried := '{}';
        claimable := '{}';
        timed := false;
        return;
    end if;
    with fit as materialized (
        select s.task_no, s.status, o.options_no, o.options_no <> t.options_no as changed,
               o.max_retries, o.priority, o.partition, s.claimed_at is null and waiting.unmet = 0 as becomes_ready,
               -- Names of timers (ripieno.domain.timers). Any other task is done with here.
               case when o.options ?| array['ripieno.delay', 'ripieno.deadline', 'ripieno.retry.first_delay'] then true end as timed,
               waiting.unmet + case when delayed and start_of(o.options) is not null then 1 else 0 end as unmet
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
        union all
        select session, 6, 1, array_agg(f.task_no), null, null from fit f where f.becomes_ready and f.unmet = 0 having count(*) > 0
    )
    select coalesce(array_agg(again.task_no), '{}'),
           coalesce(array_agg(distinct again.partition) filter (where again.unmet = 0 and again.partition <> ' '), '{}'),
           exists (select from fit f where f.timed)
    into retried, claimable, timed from again;
    if timed then
        delete from timers i using unnest(retried) as again (task_no) where i.task_no = again.task_no;
        insert into timers (task_no, kind, session_no, due_at)
        select again.task_no, timer.kind, session, timer.due_at
        from unnest(retried) as again (task_no)
        join tasks t on t.task_no = again.task_no
        join options o on o.options_no = t.options_no
        cross join lateral (
            values (1, case when delayed then start_of(o.options) end), (2, deadline_of(o.options))
        ) as timer (kind, due_at)
        where timer.due_at is not null;
    end if;
end $$;

-- Another attempt for tasks, as before; what replicas of the release before call.
create or replace function retry_tasks(
    session bigint, numbers bigint[], options_nos bigint[], out retried bigint[], out claimable text[]
) language plpgsql as $$
begin
    select done.retried, done.claimable into retried, claimable
    from retry_timed_tasks(session, numbers, options_nos, false) as done;
end $$;

-- As before; but a revived task waits for its time, if that has not come, and its deadline counts anew.
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
                   other.place as failed_input, other.owner_no, o.partition,
                   waiting.unmet + case
                       when o.options ?| array['ripieno.delay', 'ripieno.retry.first_delay']
                       then (select count(*)::integer from timers i where i.task_no = s.task_no and i.kind = 1)
                       else 0 end as unmet,
                   case when o.options ? 'ripieno.deadline' then deadline_of(o.options) end as deadline
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
        ), timed as (
            insert into timers (task_no, kind, session_no, due_at)
            select j.task_no, 2, session, j.deadline from judged j where j.revives and j.deadline is not null
            on conflict (task_no, kind) do update set due_at = excluded.due_at
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

-- As before; timers go with their tasks.
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
    delete from timers i using unnest(numbers) as gone (task_no) where i.task_no = gone.task_no;
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
