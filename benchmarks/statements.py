"""What one task costs in the store: ``python -m benchmarks.statements``.

Submission, claim and commit of no-op tasks through ``ripieno.store`` alone, one call after the
other: processor time of Python and of PostgreSQL, bytes of write-ahead log and of tables, and
the time of a transaction with a single task. ``docs/performance.md`` quotes the figures.
"""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import asyncpg
import uvloop

from benchmarks.clusters import postgres
from benchmarks.footprint import processor_s
from benchmarks.tasks import PAYLOAD, RESULT
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Completed, Outcome
from ripieno.domain.submission import NewTask
from ripieno.store.attempts.claim import Claimed, Claims
from ripieno.store.attempts.commit import Committer
from ripieno.store.cluster.agents import register_agent
from ripieno.store.database.database import Database
from ripieno.store.sessions.sessions import Sessions
from ripieno.store.submitting.submission import SubmissionCall, submit

TASKS = 50_000
ALONE = 300
_A_CALL, _A_CLAIM, _A_COMMIT = 1_000, 512, 512


def main() -> None:
    """Print one line a step."""
    with tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True) as scratch:
        server = Path(scratch) / "postgres"
        with postgres(server) as url:
            leader = int((server / "postmaster.pid").read_text().split()[0])
            uvloop.run(_measure(url, lambda: sum(processor_s([leader]).values())))


async def _measure(url: str, postgres_s: Callable[[], float]) -> None:
    async with Database.open(url) as database:
        sessions = Sessions(database)
        await sessions.create("s", TaskOptions(60_000_000, 1, 1, {}))
        session = await sessions.find("s")
        agent = await register_agent(
            database, uuid.uuid4(), name="a", slots=2, partitions=[], version="0", lease_s=3_600
        )
        claims, committer = Claims(database), Committer(database, sessions)
        claimed: list[Claimed] = []

        async def submissions(count: int, a_call: int) -> None:
            prefix = uuid.uuid4().hex
            for start in range(0, count, a_call):
                names = [f"{prefix}-{number}" for number in range(start, start + a_call)]
                tasks = [NewTask(name, [name], [], PAYLOAD) for name in names]
                assert (await submit(database, [SubmissionCall(session, session.default, tasks)]))[0] == [None]

        async def claim(a_claim: int) -> None:
            while found := await claims.claim("", [agent] * a_claim):
                claimed.extend(found)

        async def commits(a_commit: int) -> None:
            for start in range(0, len(claimed), a_commit):
                some = claimed[start : start + a_commit]
                results = [Completed([(each.expected_output_keys[0], RESULT)]) for each in some]
                ended = [Outcome(each.ticket, how, 1, "w") for each, how in zip(some, results, strict=True)]
                assert not (await committer.commit(ended))[1]
            claimed.clear()

        async def step(name: str, count: int, work: Callable[[], "asyncio.Future[None]"]) -> None:
            wal, postgres_before, python_before = await _wal(database), postgres_s(), time.process_time()
            began = time.perf_counter()
            await work()
            took = time.perf_counter() - began
            python_us = (time.process_time() - python_before) / count * 1e6
            postgres_us = (postgres_s() - postgres_before) / count * 1e6
            wal_bytes = (await _wal(database) - wal) / count
            print(
                f"{name:22} {took / count * 1e6:7.1f} us a task: Python {python_us:6.1f}, PostgreSQL {postgres_us:6.1f};"
                f" {wal_bytes:7.0f} bytes of log"
            )

        for _ in range(3):
            await step("submission, 1,000", TASKS, lambda: asyncio.ensure_future(submissions(TASKS, _A_CALL)))
            await step("claim, 512", TASKS, lambda: asyncio.ensure_future(claim(_A_CLAIM)))
            await step("commit, 512", TASKS, lambda: asyncio.ensure_future(commits(_A_COMMIT)))
        await step("submission, one alone", ALONE, lambda: asyncio.ensure_future(submissions(ALONE, 1)))
        await step("claim, one alone", ALONE, lambda: asyncio.ensure_future(claim(1)))
        await step("commit, one alone", ALONE, lambda: asyncio.ensure_future(commits(1)))
        rows: list[asyncpg.Record] = await database.fetch(
            "select relname, pg_total_relation_size(relid) as bytes from pg_stat_user_tables where n_tup_ins > 1000"
        )
        print("bytes a finished task:", {row["relname"]: row["bytes"] // (3 * TASKS) for row in rows})


async def _wal(database: Database) -> float:
    row = await database.fetchrow("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes")
    assert row is not None
    position: float = row["bytes"]
    return position


if __name__ == "__main__":
    main()
