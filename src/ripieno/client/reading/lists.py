"""Lists of sessions, tasks, attempts, results, agents and partitions, read page by page as they are iterated."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.client.terms.definitions import TaskOptions
from ripieno.client.terms.errors import from_rpc
from ripieno.domain.catalogue import Field, Kind, Listed, fields_of
from ripieno.domain.errors import InvalidRequestError, LimitError
from ripieno.domain.language import parse_filter, parse_sort
from ripieno.domain.options import PARTITION_OPTION
from ripieno.domain.queries import Query, check_query
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.v1 import (
    agents_pb2_grpc,
    partitions_pb2_grpc,
    results_pb2_grpc,
    sessions_pb2_grpc,
    tasks_pb2_grpc,
)
from ripieno.wire.queries import query_to_wire

#: Rows of one call.
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session in a list; `docs/protocol.md`, part 8, says what its fields mean."""

    number: int
    id: str
    status: SessionStatus
    client_submission: bool
    worker_submission: bool
    created_at: datetime
    cancelled_at: datetime | None
    closed_at: datetime | None
    purged_at: datetime | None
    default_options: TaskOptions


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task in a list; times, agent, worker and error are those of its latest attempt."""

    number: int
    id: str
    session_id: str
    status: TaskStatus
    attempt: int
    unmet_dependencies: int
    submitted_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    duration: timedelta | None
    agent: str | None
    worker: str | None
    error: str | None
    options: TaskOptions
    expected_output_keys: Sequence[str]
    data_dependencies: Sequence[str]
    payload_size: int
    starts_at: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class ListedAttempt:
    """An attempt in a list."""

    task_number: int
    task_id: str
    session_id: str
    number: int
    status: TaskStatus
    claimed_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    duration: timedelta | None
    agent: str | None
    worker: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ListedResult:
    """A result in a list."""

    key: str
    session_id: str
    status: ResultStatus
    owner_task_id: str | None
    created_at: datetime
    ended_at: datetime | None
    size: int
    name: str | None


@dataclass(frozen=True, slots=True)
class ListedAgent:
    """An agent in a list."""

    number: int
    id: str
    name: str
    connected: bool
    slots: int
    held: int
    partitions: Sequence[str]
    version: str
    connected_at: datetime
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class ListedPartition:
    """A partition in a list, with the agents that serve it, their slots, and tasks that wait for one, up to 10,000."""

    name: str
    agents: int
    slots: int
    busy: int
    claimable: int


RowT = TypeVar("RowT")

#: List -> stub of its service, method, and field of the reply that has the rows.
_PLACES: Mapping[Listed, tuple[Callable[..., Any], str, str]] = {
    Listed.SESSIONS: (sessions_pb2_grpc.SessionsStub, "List", "sessions"),
    Listed.TASKS: (tasks_pb2_grpc.TasksStub, "List", "tasks"),
    Listed.ATTEMPTS: (tasks_pb2_grpc.TasksStub, "ListAttempts", "attempts"),
    Listed.RESULTS: (results_pb2_grpc.ResultsStub, "List", "results"),
    Listed.AGENTS: (agents_pb2_grpc.AgentsStub, "List", "agents"),
    Listed.PARTITIONS: (partitions_pb2_grpc.PartitionsStub, "List", "partitions"),
}


async def list_rows(
    connection: Connection, listed: Listed, row: Callable[..., RowT], where: str, sort: str, limit: int | None
) -> AsyncGenerator[RowT, None]:
    """Yield the rows of a list that match, page by page.

    Args:
        connection: The connection.
        listed: The list.
        row: Makes a row of its fields.
        where: A filter (``domain.language``); empty for everything.
        sort: Fields to sort by; empty for the order of creation.
        limit: The most rows; None for all.

    Raises:
        InvalidRequestError: the filter or the sort means nothing; it says where, and the way out.
        LimitError: the query takes the database too long.
        UnavailableError: no server answered.
    """
    if limit is not None and limit < 0:
        raise InvalidRequestError("limit", f"{limit} is negative; None is for all rows")
    query = Query(listed, parse_filter(listed, where, "where"), parse_sort(listed, sort, "sort"), page_size=_PAGE)
    check_query(query)
    stub, method, rows = _PLACES[listed]
    patience = connection.patience(f"list {listed.value}")
    left = limit
    while left != 0:
        wanted = query.page_size if left is None else min(query.page_size, left)
        try:
            reply = await getattr(connection.stub(stub), method)(query_to_wire(replace(query, page_size=wanted)))
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure)
            if isinstance(error, LimitError) and error.limit == "bytes_per_page" and wanted > 1:
                query = replace(query, page_size=wanted // 2)
            else:
                await patience.pause(failure)
            continue
        patience.renew()
        for message in getattr(reply, rows):
            yield row(**{field.name: _value(field, message) for field in fields_of(listed).values()})
        if not reply.page.next_cursor:
            return
        query = replace(query, cursor=reply.page.next_cursor)
        left = None if left is None else left - len(getattr(reply, rows))


def _value(field: Field, message: Any) -> Any:
    value = getattr(message, field.name)
    if field.kind is Kind.STATUS:
        return type(field.statuses[0])[value]
    if field.kind is Kind.TIME:
        return value.ToDatetime(UTC) if message.HasField(field.name) else None
    if field.kind is Kind.DURATION:
        return value.ToTimedelta() if message.HasField(field.name) else None
    if field.kind is Kind.OPTIONS:
        options = options_from_wire(field.name, value)
        free = dict(options.options)
        partition = free.pop(PARTITION_OPTION, None)
        seconds = timedelta(microseconds=options.max_duration_us).total_seconds()
        return TaskOptions(options.priority, options.max_retries, seconds, partition, free)
    if field.kind is Kind.TEXTS:
        return tuple(value)
    return None if field.optional and value == "" else value
