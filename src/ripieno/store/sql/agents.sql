-- name: register
insert into agents (agent_id, name, slots, partitions, version, lease_until)
values ($1, $2, $3, $4, $5, now() + $6 * interval '1 second')
on conflict (agent_id) do update
set name = excluded.name, slots = excluded.slots, partitions = excluded.partitions,
    version = excluded.version, lease_until = excluded.lease_until
returning agent_no

-- name: renew
update agents set lease_until = now() + $2 * interval '1 second' where agent_no = any($1::bigint[])

-- name: held
select task_no, session_no, claim from states where agent_no = $1 and claim is not null

-- name: held_for_a_while
-- What was claimed just now may still be on its way into the replica's memory.
select agent_no, task_no, session_no, claim from states
where agent_no = any($1::bigint[]) and claim is not null and claimed_at < now() - interval '5 seconds'

-- name: still_owned
select s.task_no, s.claim, s.status
from unnest($1::bigint[], $2::bigint[]) as held (task_no, claim)
join states s on s.task_no = held.task_no and s.claim is not distinct from held.claim and s.agent_no = $3

-- name: expired
-- Attempts whose agent is gone. An agent without a lease for a day that holds nothing is forgotten.
select s.task_no, s.session_no, s.claim, a.name
from agents a join states s on s.agent_no = a.agent_no and s.claim is not null
where a.lease_until < now()
limit $1

-- name: forget
delete from agents a
where a.lease_until < now() - interval '1 day'
  and not exists (select from states s where s.agent_no = a.agent_no and s.claim is not null)
