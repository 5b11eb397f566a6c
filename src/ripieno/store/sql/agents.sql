-- name: register
-- Registers a connection; no row is written or returned if the agent has a later connection already.
insert into agents as a (agent_id, name, slots, partitions, version, lease_until, replica, epoch)
values ($1, $2, $3, $4, $5, now() + $6 * interval '1 second', $7, $8)
on conflict (agent_id) do update
set name = excluded.name, slots = excluded.slots, partitions = excluded.partitions,
    version = excluded.version, lease_until = excluded.lease_until, replica = excluded.replica,
    epoch = excluded.epoch, renewals = a.renewals + 1
where a.epoch < excluded.epoch
returning agent_no

-- name: resize
-- How many attempts an agent runs at a time, told on its latest connection.
update agents set slots = $3 where agent_no = $1 and epoch = $2

-- name: renew
-- Renews the leases of agents whose latest connection this is: not of one that has connected anew since, through
-- whichever replica.
update agents a
set renewals = a.renewals + 1, lease_until = now() + $3 * interval '1 second', replica = $4
from unnest($1::bigint[], $2::bigint[]) as connected (agent_no, epoch)
where a.agent_no = connected.agent_no and a.epoch = connected.epoch
returning a.agent_no

-- name: introduce_replica
select pg_advisory_lock(hashtext('ripieno replica'), $1)

-- name: renewals
select a.agent_no, a.renewals from agents a
where exists (select from states s where s.agent_no = a.agent_no and s.claim is not null)

-- name: write_to
-- Renewals lock rows of other agents, and in another order, so locked rows are skipped and not waited for.
with free as materialized (
    select agent_no from agents where agent_no = any($1::bigint[]) for update skip locked
)
update agents a set lease_until = a.lease_until
from free where a.agent_no = free.agent_no
returning a.agent_no

-- name: without_replica
-- Agents whose replica has ended, or is the asking one ($2), which is not connected to them any more. A replica that
-- is stopped, or is late to renew, still has its session.
select a.agent_no from agents a
where a.agent_no = any($1::bigint[]) and (a.replica = $2 or not exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2
      and l.classid::bigint = hashtext('ripieno replica') & x'ffffffff'::bigint
      and l.objid::bigint = a.replica
      and l.database = (select oid from pg_database where datname = current_database())))

-- name: held
-- Attempts that an agent holds; none if it has a later connection, through which they may have been claimed.
select s.task_no, s.session_no, s.claim
from agents a
join states s on s.agent_no = a.agent_no and s.claim is not null
where a.agent_no = $1 and a.epoch = $2

-- name: held_for_a_while
-- Attempts claimed more than 5 seconds ago: later ones may still be on their way into the replica's memory. Some of
-- those may be returned, too, since the clock may have been set between the claim and now: callers look twice.
-- No attempts of agents that have a later connection, as in "held".
select s.agent_no, s.task_no, s.session_no, s.claim
from unnest($1::bigint[], $2::bigint[]) as connected (agent_no, epoch)
join agents a on a.agent_no = connected.agent_no and a.epoch = connected.epoch
join states s on s.agent_no = a.agent_no and s.claim is not null
  and s.claimed_at not between now() - interval '5 seconds' and now()

-- name: still_owned
select s.task_no, s.claim, s.status
from unnest($1::bigint[], $2::bigint[]) as held (task_no, claim)
join states s on s.task_no = held.task_no and s.claim is not distinct from held.claim and s.agent_no = $3

-- name: held_by_lapsed
-- Attempts of agents that are lost unless one of their leases was renewed just now.
select s.task_no, s.session_no, s.claim, a.name
from unnest($1::bigint[], $2::bigint[]) as lapsed (agent_no, renewals)
join agents a on a.agent_no = lapsed.agent_no and a.renewals = lapsed.renewals
join states s on s.agent_no = a.agent_no and s.claim is not null
limit $3

-- name: end
-- Ends an agent: a connection that a replica still has is not renewed any more.
update agents set epoch = $2 where agent_id = $1 returning agent_no

-- name: held_by_ended
select s.task_no, s.session_no, s.claim, a.name
from agents a join states s on s.agent_no = a.agent_no and s.claim is not null
where a.agent_no = $1 and a.epoch = $3
limit $2

-- name: forget
delete from agents a
where a.lease_until < now() - interval '1 day'
  -- One look for each agent, however few claims there were when the statistics were taken.
  and (select s.task_no from states s where s.agent_no = a.agent_no and s.claim is not null limit 1) is null
