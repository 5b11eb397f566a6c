"""Claims: tasks are taken for agents, most urgent first, without waiting for locks.

A claim need not survive a crash of the database: if it is undone, the task is
SUBMITTED again, and commits of the agent under the old claim are refused. So the
commit of a claim does not wait for the disk.
"""

import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.reaches import Reach, Reaches
from ripieno.store.database.database import Database
from ripieno.store.database.faults import StaleError
from ripieno.store.database.queries import Queries
from ripieno.store.database.remembered import Remembered
from ripieno.store.sessions.sessions import options_of

_SQL = Queries("claim")


class Claimed(NamedTuple):
    """A task, claimed for one attempt by one agent."""

    ticket: Ticket
    agent_no: int
    task_id: str
    retry: int
    options_no: int
    expected_output_keys: Sequence[str]
    data_dependencies: Sequence[str]
    payload: Data


def random_claims() -> int:
    """Return the first claim token of a statement, one of 2**63 at random, so that no task gets a token twice."""
    return secrets.randbits(63) - (1 << 62)


class Claims:
    """Claims tasks for agents, and reads the options of claimed tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Option sets never change.
        self._options: Remembered[int, TaskOptions] = Remembered(lambda options: options.free_bytes)
        self._reaches = Reaches()
        database.on_new_incarnation += [self._options.clear, self._reaches.clear]

    async def claim(self, partition: str, agents: Sequence[int]) -> list[Claimed]:
        """Claim up to ``len(agents)`` tasks of a partition, the i-th for the i-th agent number.

        Returns:
            The claimed tasks; fewer than agents if no more are claimable now.
        """
        reach = self._reaches.of(partition, len(agents))
        onward = [] if reach is None else await self._claim_onward(partition, agents, reach)
        left = agents[len(onward) :]
        if not left:
            return [_claimed(row) for row in onward]
        began = time.monotonic()
        rows = await self._database.fetch_relaxed(_SQL.claim, partition, len(left), random_claims(), left)
        self._reaches.began(partition, len(left), _last(rows, len(left)), time.monotonic() - began)
        return [_claimed(row) for row in (*onward, *rows)]

    async def _claim_onward(self, partition: str, agents: Sequence[int], reach: Reach) -> list[asyncpg.Record]:
        began = time.monotonic()
        rows = await self._database.fetch_relaxed(
            _SQL.claim_onward, partition, len(agents), random_claims(), agents, reach.priority, reach.task_no
        )
        self._reaches.went_on(partition, reach, _last(rows, len(agents)), time.monotonic() - began)
        return rows

    async def options(self, numbers: Sequence[int]) -> dict[int, TaskOptions]:
        """Return the option sets with these numbers.

        Raises:
            StaleError: the database does not know one of the numbers (any more).
        """
        found = {number: known for number in numbers if (known := self._options.get(number)) is not None}
        if unknown := [number for number in numbers if number not in found]:
            for row in await self._database.fetch(_SQL.find_options, unknown):
                found[row["options_no"]] = options_of(row)
                self._options.put(row["options_no"], found[row["options_no"]])
        if gone := [number for number in unknown if number not in found]:
            raise StaleError(f"the database knows no options {gone} (any more); nothing happened, try again")
        return found


def _last(rows: Sequence[asyncpg.Record], asked: int) -> tuple[int, int] | None:
    """Return priority and number of the last row; None if there are fewer rows than asked."""
    return (rows[-1]["priority"], rows[-1]["task_no"]) if len(rows) == asked else None


def _claimed(row: asyncpg.Record) -> Claimed:
    data, size, name, sha256 = row["data"], row["size"], row["object"], row["sha256"]
    if size is None:
        data = b""  # the result that is the payload was deleted, which the agent finds out
    return Claimed(
        ticket=Ticket(row["task_no"], row["session_no"], row["claim"]),
        agent_no=row["agent_no"],
        task_id=row["id"],
        retry=row["retry"],
        options_no=row["options_no"],
        expected_output_keys=row["expected_output_keys"],
        data_dependencies=row["data_dependencies"],
        payload=StoredObject(name, size, sha256) if data is None else data,
    )
