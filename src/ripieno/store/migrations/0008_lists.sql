-- Lists: what they need to be quick, at no cost to a task that completes.

-- step: together
-- Cursors of lists are sealed under this. All replicas of a cluster share it, and nobody else knows it.
alter table cluster add column cursor_secret uuid not null default gen_random_uuid();


-- step: alone
-- Tasks that did not complete: few among many, as a rule. Any other task never enters it.
create index concurrently states_failed on states (session_no, task_no) where status in (11, 12, 13);

-- step: alone
-- Distinct partitions. Options are written once for each set.
create index concurrently options_by_partition on options (partition);
