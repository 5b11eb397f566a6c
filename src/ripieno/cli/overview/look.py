"""``look``: what a cluster does right now, in a few calls of bounded cost.

Numbers of tasks are the sums that the cluster keeps anyway. What runs and what agents hold is as much as there are
slots, about. Tasks that wait are counted up to a bound. Failed tasks are read only when there are more of them than before,
the newest ones.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from ripieno.cli.calling.calls import CALL_TIMEOUT_S
from ripieno.domain.catalogue import Listed
from ripieno.domain.language import parse_filter, parse_sort
from ripieno.domain.queries import Query
from ripieno.domain.texts import gist
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.v1 import query_pb2
from ripieno.wire.protos.v1.agents_pb2_grpc import AgentsStub
from ripieno.wire.protos.v1.partitions_pb2_grpc import PartitionsStub
from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub
from ripieno.wire.queries import filter_to_wire, query_to_wire

#: Agents and partitions that are read; of more, the first ones.
_MOST = 1_000
#: Running tasks that are shown.
_SLOWEST = 10
#: Newest failed tasks whose reasons are counted, and reasons that are shown.
NEWEST_FAILED, _REASONS = 100, 10
#: Reasons that differ by the name of an input alone are one.
_INPUT = re.compile(r"^input '.*' (was aborted|is gone: its data was deleted)$")


@dataclass(frozen=True, slots=True)
class PartitionSeen:
    """A partition: agents that serve it, their slots, busy ones, and tasks that wait for one, up to 10,000."""

    name: str
    agents: int
    slots: int
    busy: int
    claimable: int


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task that runs."""

    id: str
    session_id: str
    agent: str
    began_at: datetime
    runs_for: timedelta
    max_duration: timedelta


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one time.

    Attributes:
        at: The time, by the clock of this machine.
        rate: Tasks that ended in a second, since the look before; None at the first one.
        submitted: Tasks that wait for inputs, their time, or an agent.
        claimable: Those that wait for an agent alone, up to 10,000 a partition.
        dispatched: Tasks that agents hold and no worker has begun.
        running: Tasks that run, or are being interrupted.
        failures: Reasons of the newest failed tasks, each in one line with how many have it, the most frequent first.
    """

    at: datetime
    rate: float | None
    submitted: int
    claimable: int
    dispatched: int
    running: int
    completed: int
    failed: int
    cancelled: int
    agents: int
    slots: int
    busy: int
    partitions: Sequence[PartitionSeen]
    slowest: Sequence[TaskSeen]
    failures: Sequence[tuple[str, int]]

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return self.completed + self.failed + self.cancelled


class Looks:
    """Looks at one cluster again and again.

    Args:
        channel: A connection to it.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._tasks = TasksStub(channel)
        self._agents = AgentsStub(channel)
        self._partitions = PartitionsStub(channel)
        self._before: tuple[float, Look] | None = None

    def look(self) -> Look:
        """Look at the cluster now.

        Raises:
            grpc.RpcError: a call failed.
        """
        submitted = self._count("status=SUBMITTED")
        dispatched = self._count("status=DISPATCHED")
        running = self._count("status=PROCESSING or status=CANCELLING")
        completed = self._count("status=COMPLETED")
        failed = self._count("status=ERROR or status=TIMEOUT")
        cancelled = self._count("status=CANCELLED")
        clock = time.monotonic()
        agents = self._list(self._agents, Listed.AGENTS, "connected=true", "", ["slots", "held"], _MOST).agents
        partitions = [
            PartitionSeen(each.name, each.agents, each.slots, each.busy, each.claimable)
            for each in self._list(self._partitions, Listed.PARTITIONS, "", "", [], _MOST).partitions
        ]
        seen = Look(
            datetime.now(UTC),
            None,
            submitted,
            sum(each.claimable for each in partitions),
            dispatched,
            running,
            completed,
            failed,
            cancelled,
            len(agents),
            sum(each.slots for each in agents),
            sum(min(each.held, each.slots) for each in agents),
            partitions,
            self._slowest() if running else [],
            [],
        )
        if self._before is not None:
            at, before = self._before
            # A session that was deleted takes its tasks out of the sum.
            seen = replace(seen, rate=max(seen.ended - before.ended, 0) / max(clock - at, 1e-3))
        if self._before is not None and self._before[1].failed == failed:
            seen = replace(seen, failures=self._before[1].failures)
        elif failed:
            seen = replace(seen, failures=self._failures())
        self._before = (clock, seen)
        return seen

    def _count(self, conditions: str) -> int:
        filter_ = filter_to_wire(parse_filter(Listed.TASKS, conditions))
        return int(self._tasks.Count(filter_, timeout=CALL_TIMEOUT_S).rows)

    def _list(self, stub: Any, listed: Listed, conditions: str, sort: str, fields: Sequence[str], size: int) -> Any:
        query = Query(listed, parse_filter(listed, conditions), parse_sort(listed, sort), list(fields), page_size=size)
        request: query_pb2.Query = query_to_wire(query)
        return stub.List(request, timeout=CALL_TIMEOUT_S)

    def _slowest(self) -> list[TaskSeen]:
        fields = ["id", "session_id", "agent", "started_at", "options"]
        rows = self._list(self._tasks, Listed.TASKS, "status=PROCESSING", "started_at", fields, _SLOWEST).tasks
        now = datetime.now(UTC)
        seen = []
        for row in rows:
            began_at = row.started_at.ToDatetime(UTC)
            limit = timedelta(microseconds=options_from_wire("options", row.options).max_duration_us)
            seen.append(TaskSeen(row.id, row.session_id, row.agent, began_at, max(now - began_at, timedelta()), limit))
        return seen

    def _failures(self) -> list[tuple[str, int]]:
        fields = ["error"]
        conditions = "status=ERROR or status=TIMEOUT"
        rows = self._list(self._tasks, Listed.TASKS, conditions, "-number", fields, NEWEST_FAILED).tasks
        return _most_frequent(row.error for row in rows)


def _most_frequent(errors: Iterable[str]) -> list[tuple[str, int]]:
    said = (gist(error) or "no reason given" for error in errors)
    return Counter(_INPUT.sub(r"an input \1", line) for line in said).most_common(_REASONS)
