"""A database in which much work is done already: what plans and statistics look like after a while."""

import asyncpg

#: A hundred sessions of finished tasks; each statement is given their number.
FILL = {
    "sessions": "insert into sessions (id, default_options_no) select 'session ' || n, n from generate_series(1, 101) as n",
    "options": """
        insert into options (session_no, digest, max_duration_us, max_retries, priority, partition, options)
        select n, 'digest', 1000000, 1, 50, '', '{}' from generate_series(1, 101) as n""",
    "tasks": """
        insert into tasks (task_no, session_no, options_no, payload_no, id, expected_output_keys, data_dependencies)
        select n, 1 + (n - 1) * 100 / $1, 1 + (n - 1) * 100 / $1, n, 'task ' || n, array['key ' || n], array['key ' || n - 1]
        from generate_series(1, $1::bigint) as n""",
    "states": """
        insert into states (task_no, session_no, agent_no, claimed_at, started_at, ended_at,
                            unmet, max_retries, status, priority, partition, worker, outputs)
        select n, 1 + (n - 1) * 100 / $1, 1 + n % 7, now(), now(), now(), 0, 1, 10, 50, '', 'worker', 1 from generate_series(1, $1::bigint) as n""",
    "results": """
        insert into results (session_no, owner_no, blob_no, ended_at, status, key)
        select 1 + (n - 1) * 100 / $1, n, 4611686018427387904 + n, now(), 10, 'key ' || n from generate_series(1, $1::bigint) as n""",
    "dependencies": """
        insert into dependencies (session_no, task_no, key)
        select 1 + (n - 1) * 100 / $1, n, 'key ' || n - 1 from generate_series(1, $1::bigint) as n""",
    "payloads": """
        insert into blobs (blob_no, size, data) select n, 7, 'payload' from generate_series(1, $1::bigint) as n""",
    "data": """
        insert into blobs (blob_no, size, data)
        select 4611686018427387904 + n, 6, 'result' from generate_series(1, $1::bigint) as n""",
    "earlier attempts": """
        insert into earlier_attempts (task_no, retry, status)
        select n, 0, 11 from generate_series(1, $1::bigint, 10) as n""",
    "counts": """
        insert into session_counts (session_no, status, delta)
        select n, 10, $1::bigint / 100 from generate_series(1, 100) as n""",
    "agents": """
        insert into agents (agent_id, name, slots, partitions, version, lease_until)
        select gen_random_uuid(), 'agent ' || n, 1, '{}', '1', now() from generate_series(1, 50) as n""",
}

#: One session of work that waits, on top: claimable, waiting for a dependency, held. A tenth as much as is done.
WAITING = """
    insert into tasks (task_no, session_no, options_no, payload_no, id, expected_output_keys, data_dependencies)
    select n, 101, 101, n, 'task ' || n, array['key ' || n], '{}' from generate_series($1::bigint + 1, $1 * 11 / 10) as n
"""
WAITING_STATES = """
    insert into states (task_no, session_no, unmet, max_retries, priority, partition, outputs, status, claim, agent_no)
    select n, 101, case n % 10 when 1 then 1 else 0 end, 1, 1 + n % 99, '', 1,
           case n % 100 when 2 then 2 else 1 end, case n % 100 when 2 then n end, case n % 100 when 2 then 7 end
    from generate_series($1::bigint + 1, $1 * 11 / 10) as n
"""
WAITING_RESULTS = """
    insert into results (session_no, owner_no, status, key)
    select 101, n, 1, 'key ' || n from generate_series($1::bigint + 1, $1 * 11 / 10) as n
"""
WAITING_DEPENDENCIES = """
    insert into dependencies (session_no, task_no, key)
    select 101, n, 'key ' || n - 1 from generate_series($1::bigint + 1, $1 * 11 / 10) as n where n % 10 = 1
"""
WAITING_PAYLOADS = """
    insert into blobs (blob_no, size, data)
    select n, 7, 'payload' from generate_series($1::bigint + 1, $1 * 11 / 10) as n
"""


_OF_THE_WAITING = ("tasks", "states", "results", "dependencies")


async def fill(connection: asyncpg.Connection, finished: int) -> None:
    """Write ``finished`` tasks that are done, and a tenth as many that are not."""
    for statement in FILL.values():
        await connection.execute(statement, *([finished] if "$1" in statement else []))
    await _fill_waiting(connection, finished)
    await connection.execute("select setval('task_numbers', $1::bigint)", finished * 2)


async def analyse_without_the_waiting(connection: asyncpg.Connection) -> None:
    """Leave the statistics of a time at which no task was unfinished, though a tenth are now."""
    finished = await connection.fetchval("select max(task_no) from tasks where session_no <> 101")
    for table in _OF_THE_WAITING:
        await connection.execute(f"delete from {table} where session_no = 101")
    await connection.execute("delete from blobs where blob_no > $1 and blob_no < 4611686018427387904", finished)
    await connection.execute("analyze")
    await _fill_waiting(connection, finished)


async def _fill_waiting(connection: asyncpg.Connection, finished: int) -> None:
    for statement in (WAITING, WAITING_STATES, WAITING_RESULTS, WAITING_DEPENDENCIES, WAITING_PAYLOADS):
        await connection.execute(statement, finished)
