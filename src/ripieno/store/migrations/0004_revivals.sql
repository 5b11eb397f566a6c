-- Retries: the one way out of a final status. A task that failed by itself (ERROR or TIMEOUT) gets another attempt, and
-- the graph below it is revived: what failed only because of it waits again.

-- Revivals that are under way: results that are to be made again, whose dependents may not wait again yet. A long
-- revival is done in steps, as a cut is; what a step leaves to the next one survives a crash here.
create table pending_revivals (
    session_no bigint not null,
    revival_no bigint generated always as identity,
    key text collate "C" not null,
    -- Dependents up to this number are through.
    after_no bigint not null,
    primary key (session_no, revival_no)
);

-- Few rows at any time. A revived result is cut no more, and a revived task waits for what is not promoted yet.
create index pending_cuts_by_key on pending_cuts (session_no, key);
create index pending_promotions_by_key on pending_promotions (session_no, key);

-- Another attempt for those of the tasks that failed by themselves, of a session whose gate the caller holds
-- exclusively. The latest attempt moves to earlier_attempts; the task has as many retries again as its options say.
--   options_nos  new options of each task; null: it keeps its own
-- Returns the tasks that wait again, and the partitions in which one is claimable. Nothing happens in a session that
-- has ended. A task with an input that will not come is left as it is.
create function retry_tasks(
    session bigint, numbers bigint[], options_nos bigint[], out retried bigint[], out claimable text[]
) language plpgsql as $$
begin
    if not exists (select from sessions n where n.session_no = session and n.status < 10) then
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
            priority = fit.priority, partition = fit.partition,
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
           coalesce(array_agg(distinct again.partition) filter (where again.unmet = 0), '{}')
    into retried, claimable from again;
end $$;

-- One step of the revivals of a session, whose gate the caller holds exclusively. Whoever failed because of an input
-- that is to be made again is judged anew: with another input that will not come it stays failed, and says so; else it
-- waits again, and its results are to be made again, which goes on down the graph.
--   most     tasks, inputs and results to look at, about: at least one task is looked at, with all of them
--   ends_at  no level of the graph is begun after that
-- Returns how many tasks wait again, the partitions in which one is claimable, and whether nothing is left to do.
create function revive_some(
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
    if not exists (select from sessions n where n.session_no = session and n.status < 10) then
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
                   other.place as failed_input, other.owner_no, waiting.unmet
            from doubtful
            join states s on s.task_no = doubtful.task_no
            join tasks t on t.task_no = doubtful.task_no
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
            set status = 1, unmet = j.unmet, ended_at = null, failed_input = null, root_no = null
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
               (select array_agg(distinct a.partition) from again a where a.unmet = 0),
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
