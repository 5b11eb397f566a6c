-- The foundation: sessions, tasks, results, dependencies, agents, stored data.
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
alter table states set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

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
-- Half-full pages: completing a result changes no indexed column and stays on its page.
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
) with (fillfactor = 60, autovacuum_vacuum_cost_delay = 0);

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
    lease_until timestamptz not null
);
create index agents_by_lease on agents (lease_until);

-- How many tasks of a session are in each status: the sum of all rows. Every
-- transaction that changes statuses appends its differences, so no row is fought over;
-- a background statement folds them together.
create table session_counts (
    session_no bigint not null,
    status smallint not null,
    delta bigint not null
);
create index session_counts_by_session on session_counts (session_no);
alter table session_counts set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Every attempt of every task, the latest included once it has begun.
create view attempts as
    select task_no, retry, status, agent_no, claimed_at, started_at, ended_at, worker, detail
    from earlier_attempts
    union all
    select task_no, retry, status, agent_no, claimed_at, started_at, ended_at, worker, detail
    from states
    where claimed_at is not null;
