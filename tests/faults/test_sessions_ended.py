"""The database ends sessions and statements, or lets nobody in, while work goes on: that costs no attempt."""

import asyncio
import random
import shlex
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from cli.test_by_hand import start
from ripieno.client import AsyncClient, TaskStatus
from ripieno.store.embedded import EmbeddedPostgres

HERE = Path(__file__).parent
TASKS = 1_500
DEADLINE_S = 50.0
WORKER = f"{shlex.quote(sys.executable)} -m ripieno worker faults.squares:handle"

_OURS = "from pg_stat_activity where datname = '{database}' and application_name like 'ripieno%'"
END = f"select pg_terminate_backend(pid) {_OURS} and random() < 0.5"
CANCEL = f"select pg_cancel_backend(pid) {_OURS}"
CLOSE = "alter database {database} allow_connections false"
OPEN = "alter database {database} allow_connections true"
READ_ONLY = "alter database {database} set default_transaction_read_only = on"
#: A process of the server dies: all others end, what did not wait for the disk is forgotten, and it recovers.
CRASH = "copy (select 1) to program 'kill -9 $PPID'"
READ_WRITE = "alter database {database} reset default_transaction_read_only"


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[str]:
    """A command, from its ready line on: the last word of that."""
    process = await start(*arguments)
    assert process.stdout is not None and process.stderr is not None
    logged = asyncio.create_task(process.stderr.read())  # or it would stand still once nobody reads
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode()
        yield line.rpartition(" ")[2].strip()
    finally:
        process.kill()
        await process.wait()
        told = (await logged).decode()
        print(told)  # shown if the test fails
        assert "Traceback" not in told


async def say(server: EmbeddedPostgres, statement: str) -> None:
    """Say one thing to the server; it may end this session, too, or not be there yet after a crash."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with suppress(asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError, OSError):
                connection = await asyncpg.connect(server.url)
                break
            await asyncio.sleep(0.05)
    try:
        with suppress(asyncpg.PostgresConnectionError, asyncpg.CrashShutdownError):
            await connection.execute(statement)
    finally:
        connection.terminate()


@asynccontextmanager
async def troubled(
    server: EmbeddedPostgres, database: str, first: Sequence[str], then: Sequence[str], times: int
) -> AsyncIterator[None]:
    """Say these statements to the server, a moment apart, many times; the block has seen them all at its end."""
    chance = random.Random(7)

    async def trouble() -> None:
        for _ in range(times):
            for statements in (first, then):
                for statement in statements:
                    await say(server, statement.format(database=database))
                await asyncio.sleep(chance.uniform(0.05, 0.4))

    task = asyncio.create_task(trouble())
    try:
        yield
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("first", "then", "times"),
    [
        ([END], [], 20),
        ([CANCEL], [], 20),
        ([CLOSE, END], [OPEN], 20),
        ([READ_ONLY, END], [READ_WRITE], 20),
        ([CRASH], [], 5),
    ],
    ids=["sessions end", "statements are cancelled", "nobody is let in", "no writes", "the server crashes"],
)
async def test_everything_ends_as_if_nothing_had_been(
    postgres: EmbeddedPostgres, database_url: str, tmp_path: Path, first: Sequence[str], then: Sequence[str], times: int
) -> None:
    database = database_url.partition("?")[0].rpartition("/")[2]
    flags = ("--database", database_url, "--listen", "127.0.0.1:0", "--objects", str(tmp_path))
    async with (
        running("control", *flags) as address,
        running("agent", "--control", address, "--slots", "2", "--worker", WORKER),
        AsyncClient(address, patience=DEADLINE_S) as client,
    ):
        session = await client.session(max_retries=0, max_duration=600)
        tasks = []
        async with asyncio.timeout(DEADLINE_S), troubled(postgres, database, first, then, times):
            for start in range(0, TASKS, 100):
                tasks += await session.submit_many([str(number).encode() for number in range(start, start + 100)])
                await asyncio.sleep(0.2)
        results = [(result.task, result.data) async for result in session.results(tasks, timeout=DEADLINE_S)]
        assert Counter(results) == Counter((task, str(number**2).encode()) for number, task in enumerate(tasks))
        assert await session.counts() == {TaskStatus.COMPLETED: TASKS}
