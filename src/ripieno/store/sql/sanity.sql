-- The invariants of the tables (store.reading.sanity), each as a query that must find nothing. For tests and for
-- use by hand: they lock nothing, and read whole tables, for which the caller allows sequential scans and hash joins.
-- The caller appends "limit 5".

-- name: final_task_owns_open_output
-- INV-2 a final task owns an output that is not final.
select r.key from results r join states s on s.task_no = r.owner_no
where s.status >= 10 and r.status < 10

-- name: held_task_has_unmet_dependency
-- INV-4 a held task has an unmet dependency.
select task_no::text from states where claim is not null and unmet > 0

-- name: unmet_is_not_open_dependencies
-- INV-11 unmet is not the number of open dependencies, and of timers before which the task does not start. One that was deleted is open for a task that waited just then,
-- and was met for one that was held by an agent, and was given back or is tried again.
select s.task_no::text from states s
cross join lateral (
    select count(*) as named, count(*) filter (where r.status <> 12) as there from dependencies d
    join results r on r.session_no = d.session_no and r.key = d.key
    where d.task_no = s.task_no and (r.status <> 10 or exists (
        select from pending_promotions p
        where p.session_no = d.session_no and p.key = d.key and p.after_no < d.task_no))
) as open
left join timers i on i.task_no = s.task_no and i.kind = 1
where s.status = 1 and s.unmet - case when i.task_no is null then 0 else 1 end not between open.there and open.named

-- name: waiting_task_is_left_behind
-- INV-15 a waiting task depends on an aborted result, and nobody is going to fail or cancel it.
select s.task_no::text from states s
join dependencies d on d.task_no = s.task_no
join results r on r.session_no = d.session_no and r.key = d.key
where s.status = 1 and r.status = 11
  and not exists (
    select from pending_cuts c
    where c.session_no = d.session_no and c.key = d.key and c.after_no < d.task_no)
  and not exists (
    select from pending_cancellations c where c.session_no = d.session_no and c.whole_session)

-- name: claimable_task_depends_on_aborted_result
-- INV-15 a claimable task depends on an aborted result.
select s.task_no::text from states s
join tasks t on t.task_no = s.task_no
cross join lateral unnest(t.data_dependencies || t.payload_key) as needed (key)
join results r on r.session_no = t.session_no and r.key = needed.key
where r.status = 11 and (s.claim is not null or (s.status = 1 and s.unmet = 0))

-- name: failed_input_does_not_say_why
-- a task failed for want of an input that was not aborted (or is to be made again, and the task is yet to be revived),
-- or does not say whose end was the first cause.
select s.task_no::text from states s
join tasks t on t.task_no = s.task_no
left join results r on r.session_no = t.session_no and r.key = (t.data_dependencies || t.payload_key)[s.failed_input]
left join states root on root.task_no = s.root_no
where s.failed_input is not null
  and (s.status <> 11 or root.failed_input is not null or root.status is null
       or (r.status is distinct from 11
           and not exists (
               select from pending_revivals p
               where p.session_no = t.session_no and p.key = r.key and p.after_no < s.task_no)
           and not exists (
               select from pending_cancellations c where c.session_no = t.session_no and c.whole_session)))

-- name: awaited_result_does_not_say_so
-- INV-14 somebody waits for an open result that does not say so.
select d.key from dependencies d
join states s on s.task_no = d.task_no and s.status = 1
join results r on r.session_no = d.session_no and r.key = d.key
where r.status < 10 and not r.awaited

-- name: counts_do_not_sum_to_tasks
-- INV-12 the counts of a session do not sum to its tasks.
with counted as (select session_no, status, sum(delta) as tasks from session_counts where status > 0 group by 1, 2),
     actual as (select session_no, status, count(*) as tasks from states group by 1, 2)
select session_no::text from counted full join actual using (session_no, status)
where coalesce(counted.tasks, 0) <> coalesce(actual.tasks, 0)

-- name: stored_bytes_do_not_sum_to_data
-- INV-12 the stored bytes of a session do not sum to its data.
with counted as (select session_no, sum(delta) as size from session_counts where status = -1 group by 1),
     data as (select session_no, payload_no as blob_no from tasks
              union all select session_no, blob_no from results where blob_no is not null),
     actual as (select session_no, sum(size) as size from data join blobs using (blob_no) group by 1)
select session_no::text from counted full join actual using (session_no)
where coalesce(counted.size, 0) <> coalesce(actual.size, 0)

-- name: completed_result_without_data
-- INV-13 a completed result without data, or data of another one.
-- While a session is purged, the data of results that are DELETED by then is still there.
select r.key from results r left join blobs b on b.blob_no = r.blob_no
where (r.status = 10) <> (b.blob_no is not null)
  and not (r.status = 12 and exists (
    select from pending_sweeps p where p.session_no = r.session_no and p.kind = 'purge'))

-- name: data_without_reference
-- INV-13 data that nothing refers to.
select b.blob_no::text from blobs b
left join tasks t on t.payload_no = b.blob_no left join results r on r.blob_no = b.blob_no
where t.task_no is null and r.key is null

-- name: linked_object_is_still_staged
-- a linked object may still be collected as garbage.
select g.name from staged_objects g join blobs b on b.object = g.name

-- name: named_key_has_owner
-- a key that is only named has an owner.
select key from results where status = 0 and owner_no is not null

-- name: cancelling_task_owns_open_output
-- a task being cancelled owns an open output.
select r.key from results r join states s on s.task_no = r.owner_no
where s.status = 4 and r.status < 10

-- name: retry_is_not_earlier_attempts
-- the number of a retry is not that of the attempts before it.
select s.task_no::text from states s
where s.retry <> (select count(*) from earlier_attempts e where e.task_no = s.task_no)

-- name: task_without_state
-- a task without a state, or a state without a task.
select coalesce(t.task_no, s.task_no)::text from tasks t full join states s on s.task_no = t.task_no
where t.task_no is null or s.task_no is null

-- name: cancelled_session_has_running_task
-- a cancelled session with a task that may still run.
select t.id from sessions n join tasks t on t.session_no = n.session_no
join states s on s.task_no = t.task_no
where n.status = 10 and s.status in (1, 2, 3)
  and not exists (
    select from pending_cancellations c where c.session_no = n.session_no and c.whole_session)

-- name: log_says_another_status_of_a_task
-- the log of changes, as far as nothing was dropped from it, ends with another status or attempt of a task.
select s.task_no::text from states s
left join (
    select distinct on (named.task_no) named.task_no, c.status,
           case c.kind when 5 then null else coalesce(c.attempts[named.place], 0) end as retry
    from changes c cross join lateral unnest(c.task_nos) with ordinality as named (task_no, place)
    where c.kind <> 6
    order by named.task_no, c.change_no desc
) as last on last.task_no = s.task_no
where (select changes_dropped from cluster) is null
  and (last.status is distinct from s.status or last.retry <> s.retry)

-- name: log_says_otherwise_whether_a_task_is_ready
-- the log of changes tells that a task waits for nothing, and it does; or the other way round.
select s.task_no::text from states s
where (select changes_dropped from cluster) is null and s.status = 1
  and (s.unmet = 0) <> exists (select from changes c where c.kind in (3, 6) and s.task_no = any(c.task_nos))
  and not exists (  -- it was ready for an attempt before, and now waits for its next one
    select from timers i where i.task_no = s.task_no and i.kind = 1 and s.retry > 0)
  and not exists (  -- they are about to fail
    select from dependencies d join results r on r.session_no = d.session_no and r.key = d.key
    where d.task_no = s.task_no and r.status = 12)

-- name: log_says_another_status_of_a_result
-- the log of changes ends with another status of a result, or does not know it.
select r.key from results r
left join (
    select distinct on (told.session_no, told.key) told.session_no, told.key, told.status
    from (
        select c.change_no, c.session_no, named.key collate "C" as key, c.status
        from changes c cross join lateral unnest(c.keys) as named (key)
        union all
        select c.change_no, c.session_no, output.key collate "C", c.status
        from changes c cross join lateral unnest(c.task_nos) as named (task_no)
        join tasks t on t.task_no = named.task_no
        cross join lateral unnest(t.expected_output_keys) as output (key)
        where c.kind in (2, 3)
           or c.kind = 5 and exists (
               select from results own
               where own.session_no = c.session_no and own.key = output.key and own.owner_no = named.task_no)
    ) as told
    order by told.session_no, told.key, told.change_no desc
) as last on last.session_no = r.session_no and last.key = r.key
where (select changes_dropped from cluster) is null and r.status > 0 and last.status is distinct from r.status

-- name: log_says_another_status_of_a_session
-- the log of changes ends with another status of a session.
select n.id from sessions n
where (select changes_dropped from cluster) is null and n.status is distinct from (
    select c.status from changes c where c.session_no = n.session_no and c.kind = 1 order by c.change_no desc limit 1)

-- name: paused_session_has_claimable_task
-- INV-16 a task of a paused session may be claimed.
select s.task_no::text from states s join sessions n on n.session_no = s.session_no
where n.status = 2 and s.status = 1 and s.partition <> ' '
  and not exists (select from pending_sweeps p where p.session_no = n.session_no)

-- name: parked_task_of_running_session
-- INV-16 an unfinished task is parked although its session is not paused.
select s.task_no::text from states s join sessions n on n.session_no = s.session_no
where n.status in (1, 11) and s.status in (1, 2, 3) and s.partition = ' '
  and not exists (select from pending_sweeps p where p.session_no = n.session_no)

-- name: purged_session_is_not_empty
-- INV-17 a purged session has an unfinished task or data.
select t.id from sessions n join tasks t on t.session_no = n.session_no
join states s on s.task_no = t.task_no
left join blobs b on b.blob_no = t.payload_no
where n.status = 12 and (s.status < 10 or b.blob_no is not null
    or exists (select from results r where r.owner_no = t.task_no and r.session_no = n.session_no and r.status = 10))
  and not exists (select from pending_sweeps p where p.session_no = n.session_no)

-- name: row_of_no_session
-- INV-18 a row of a session that is not there, and that nobody is deleting.
select kind || ' ' || session_no from (
    select 'task' as kind, session_no from tasks
    union all select 'state', session_no from states
    union all select 'result', session_no from results
    union all select 'open result', session_no from unowned_results
    union all select 'dependency', session_no from dependencies
    union all select 'options', session_no from options
    union all select 'cut', session_no from pending_cuts
    union all select 'promotion', session_no from pending_promotions
    union all select 'revival', session_no from pending_revivals
    union all select 'cancellation', session_no from pending_cancellations
    union all select 'timer', session_no from timers
    union all select 'count', session_no from session_counts group by session_no having sum(delta) <> 0
) as row
where not exists (select from sessions n where n.session_no = row.session_no)
  and not exists (select from pending_sweeps p where p.session_no = row.session_no and p.kind = 'delete')

-- name: attempt_of_no_task
-- INV-18 an attempt of a task that is not there.
select e.task_no::text
from (select task_no from earlier_attempts union all select task_no from attempt_outputs) as e
left join tasks t on t.task_no = e.task_no where t.task_no is null

-- name: unowned_results_are_others
-- INV-19 the open results that no task owns are not those that are noted as such.
select coalesce(r.key, u.key) from (select * from results where status = 1 and owner_no is null) as r
full join unowned_results u on u.session_no = r.session_no and u.key = r.key
where r.key is null or u.key is null

-- name: task_without_payload
-- an unfinished task has no payload, or two.
select t.task_no::text from tasks t join states s on s.task_no = t.task_no left join blobs b on b.blob_no = t.payload_no
left join results r on r.session_no = t.session_no and r.key = t.payload_key
where s.status < 10 and (b.blob_no is not null) = (r.key is not null)

-- name: deleted_result_without_size
-- a deleted result does not say how many bytes it had, or one that is not deleted does.
select key from results where (status = 12) <> (size is not null)

-- name: timer_of_no_task
-- INV-18 a timer of a task that is not there, or of one of another session.
select i.task_no::text from timers i left join tasks t on t.task_no = i.task_no
where t.session_no is distinct from i.session_no

-- name: held_task_waits_for_its_time
-- INV-23 an agent holds a task that waits for its time.
select s.task_no::text from timers i join states s on s.task_no = i.task_no where i.kind = 1 and s.claim is not null

-- name: deadline_is_not_kept
-- INV-23 an unfinished task has a deadline in its options that nobody keeps. One of a session that is being cancelled
-- needs none.
select t.task_no::text from tasks t
join states s on s.task_no = t.task_no
join options o on o.options_no = t.options_no
join sessions n on n.session_no = t.session_no
left join timers i on i.task_no = t.task_no and i.kind = 2
where s.status in (1, 2, 3) and n.status <> 10 and o.options ? 'ripieno.deadline' and i.task_no is null
