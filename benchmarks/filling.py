"""Millions of rows at once: what the database looks like after a busy year, written by SQL.

The rows are those that the control plane would have written; they are made by
``generate_series`` in the schema that the migrations made, some hundred thousand at a time.
"""

from dataclasses import dataclass

import asyncpg

from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.store.database.migrate import SCHEMA, migrate

#: Rows a statement: a transaction of bounded size.
_ROWS = 250_000

#: Blobs of results are numbered from here on: far beyond those that the control plane numbers (from 2^62).
_FIRST_RESULT = (1 << 62) + (1 << 61)

_SESSION = """
insert into sessions (id, default_options_no) values ($1, 0) returning session_no
"""
_OPTIONS = """
insert into options (session_no, digest, max_duration_us, max_retries, priority, partition, options)
values ($1, 'filled', 60000000, 1, $2, '', '{}') returning options_no
"""
_NUMBERS = "select setval('task_numbers', greatest((select last_value from task_numbers), $1::bigint))"

#: Tasks $1 to $2 of session $3, with options $4.
_TASKS = """
insert into tasks (task_no, session_no, options_no, payload_no, id, expected_output_keys, data_dependencies)
select n, $3::bigint, $4::bigint, n, $5 || n, array[$5 || n], '{}' from generate_series($1::bigint, $2::bigint) as n
"""
_PAYLOADS = """
insert into blobs (blob_no, size, data)
select n, 100, convert_to(repeat('p', 100), 'UTF8') from generate_series($1::bigint, $2::bigint) as n
"""
_STATES = """
insert into states (task_no, session_no, ended_at, unmet, max_retries, status, priority, partition, worker)
select n, $3::bigint, case when $5::smallint >= 10 then now() end, 0, 1, $5::smallint, $4::smallint, '', 'filled'
from generate_series($1::bigint, $2::bigint) as n
"""
_RESULTS = """
insert into results (session_no, owner_no, status, key, ended_at, blob_no)
select $3::bigint, n, $4::smallint, $5 || n,
       case when $4::smallint >= 10 then now() end, case when $4::smallint >= 10 then $6::bigint + n end
from generate_series($1::bigint, $2::bigint) as n
"""
_DATA = """
insert into blobs (blob_no, size, data)
select $3::bigint + n, 100, convert_to(repeat('x', 100), 'UTF8') from generate_series($1::bigint, $2::bigint) as n
"""
_COUNTS = "insert into session_counts (session_no, status, delta) values ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Filling:
    """Tasks to write.

    Attributes:
        session: Id of a new session that they belong to.
        tasks: How many.
        finished: COMPLETED with a result of 100 bytes, or else SUBMITTED and claimable.
        priority: Theirs, and the session's default.
    """

    session: str
    tasks: int
    finished: bool
    priority: int = 1


async def fill(database: str, *fillings: Filling) -> None:
    """Write them in this order, update the statistics, and write a checkpoint.

    The ids of a session's tasks, and the keys of their results, are ``<session>/<number of the task>``.
    """
    connection = await asyncpg.connect(database)
    try:
        await migrate(connection)
        await connection.execute(f'set search_path to "{SCHEMA}"')
        for filling in fillings:
            await _fill(connection, filling)
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def _fill(connection: "asyncpg.Connection[asyncpg.Record]", filling: Filling) -> None:
    session_no = await connection.fetchval(_SESSION, filling.session)
    options_no = await connection.fetchval(_OPTIONS, session_no, filling.priority)
    await connection.execute(
        "update sessions set default_options_no = $2 where session_no = $1", session_no, options_no
    )
    before = await connection.fetchval("select coalesce(max(task_no), 0) from tasks")
    task_status = int(TaskStatus.COMPLETED if filling.finished else TaskStatus.SUBMITTED)
    result_status = int(ResultStatus.COMPLETED if filling.finished else ResultStatus.CREATED)
    prefix = f"{filling.session}/"
    for start in range(before + 1, before + filling.tasks + 1, _ROWS):
        rows = (start, min(start + _ROWS - 1, before + filling.tasks))
        async with connection.transaction():
            await connection.execute(_TASKS, *rows, session_no, options_no, prefix)
            await connection.execute(_PAYLOADS, *rows)
            await connection.execute(_STATES, *rows, session_no, filling.priority, task_status)
            await connection.execute(_RESULTS, *rows, session_no, result_status, prefix, _FIRST_RESULT)
            if filling.finished:
                await connection.execute(_DATA, *rows, _FIRST_RESULT)
    await connection.execute(_COUNTS, session_no, task_status, filling.tasks)
    await connection.execute(_NUMBERS, before + filling.tasks)
