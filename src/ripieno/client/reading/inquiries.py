"""Calls about tasks by id or by session: statuses, counts, waiting, cancelling.

Ids travel up to 2,000 to a call, so that no message grows past 2 MiB.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import grpc
import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.client.connection.cutting import in_pieces
from ripieno.domain.errors import InvariantError
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.wire.protos.armonik_v2 import objects_pb2, result_status_pb2, submitter_service_pb2, task_status_pb2
from ripieno.wire.protos.v1 import results_pb2
from ripieno.wire.statuses import RESULT_FROM_WIRE, TASK_FROM_WIRE

_NAMES_A_CALL = 2_000

_Filter = submitter_service_pb2.TaskFilter

ReplyT = TypeVar("ReplyT")


def in_session(session_id: str) -> _Filter:
    """Return a filter that selects all tasks of a session."""
    return _Filter(session=_Filter.IdsRequest(ids=[session_id]))


def _slices(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _NAMES_A_CALL):
        yield names[start : start + _NAMES_A_CALL]


async def _by_name(ask: Callable[[Sequence[str]], Awaitable[ReplyT]], names: Sequence[str]) -> list[ReplyT]:
    """Ask about names in as many calls as they need; without names no call is made."""
    return [reply for some in _slices(names) for reply in await in_pieces(ask, some)]


async def count(connection: Connection, session_id: str) -> dict[TaskStatus, int]:
    """Return how many tasks of a session are in each status; a status without tasks has no entry."""
    reply = await connection.call("count tasks", connection.submitter.CountTasks, in_session(session_id))
    return _added_up([reply])


async def wait_for_session(connection: Connection, session_id: str) -> dict[TaskStatus, int]:
    """Wait until every task of a session is final; return how many ended in each status."""
    return _added_up([await _wait(connection, in_session(session_id))])


async def wait_for_tasks(connection: Connection, task_ids: Sequence[str]) -> dict[TaskStatus, int]:
    """Wait until all these tasks are final; return how many ended in each status."""
    return _added_up(await _by_name(lambda ids: _wait(connection, _these(ids)), task_ids))


async def _wait(connection: Connection, which: _Filter) -> objects_pb2.Count:
    return await connection.call(
        "wait for tasks", connection.submitter.WaitForCompletion, submitter_service_pb2.WaitRequest(filter=which)
    )


def _these(task_ids: Sequence[str]) -> _Filter:
    return _Filter(task=_Filter.IdsRequest(ids=task_ids))


async def list_ids(connection: Connection, session_id: str) -> list[str]:
    """Return the ids of all tasks of a session, in the order of submission, however many they are."""
    if not connection.lists_tasks:
        return await _list_at_once(connection, session_id)
    patience = connection.patience("list tasks")
    while True:
        try:
            call = connection.results.ListTaskIds(results_pb2.ListTaskIdsRequest(session_id=session_id))
            return [task_id async for reply in call for task_id in reply.task_ids]
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                connection.lists_tasks = False  # the protocol's own call serves instead
                return await _list_at_once(connection, session_id)
            await patience.pause(error)


async def _list_at_once(connection: Connection, session_id: str) -> list[str]:
    reply = await connection.call("list tasks", connection.submitter.ListTasks, in_session(session_id))
    return list(reply.task_ids)


async def task_statuses(connection: Connection, task_ids: Sequence[str]) -> dict[str, TaskStatus]:
    """Return statuses by task id; unknown ids are left out."""

    async def ask(ids: Sequence[str]) -> submitter_service_pb2.GetTaskStatusReply:
        request = submitter_service_pb2.GetTaskStatusRequest(task_ids=ids)
        return await connection.call("ask for tasks' statuses", connection.submitter.GetTaskStatus, request)

    replies = await _by_name(ask, task_ids)
    return {one.task_id: _task_status(one.status) for reply in replies for one in reply.id_statuses}


async def result_statuses(connection: Connection, session_id: str, keys: Sequence[str]) -> dict[str, ResultStatus]:
    """Return statuses by result key; unknown keys are left out."""

    async def ask(some: Sequence[str]) -> submitter_service_pb2.GetResultStatusReply:
        request = submitter_service_pb2.GetResultStatusRequest(session_id=session_id, result_ids=some)
        return await connection.call("ask for results' statuses", connection.submitter.GetResultStatus, request)

    replies = await _by_name(ask, keys)
    return {one.result_id: _result_status(one.status) for reply in replies for one in reply.id_statuses}


async def cancel(connection: Connection, task_ids: Sequence[str]) -> None:
    """Cancel tasks that are not final."""

    async def ask(ids: Sequence[str]) -> objects_pb2.Empty:
        return await connection.call("cancel tasks", connection.submitter.CancelTasks, _these(ids))

    await _by_name(ask, task_ids)


def _added_up(replies: Iterable[objects_pb2.Count]) -> dict[TaskStatus, int]:
    total: dict[TaskStatus, int] = {}
    for reply in replies:
        for entry in reply.values:
            status = _task_status(entry.status)
            total[status] = total.get(status, 0) + entry.count
    return total


def _task_status(wire: task_status_pb2.TaskStatus.ValueType) -> TaskStatus:
    if wire not in TASK_FROM_WIRE:
        raise InvariantError(f"the server reports task status {wire}, in which no task ever is")
    return TASK_FROM_WIRE[wire]


def _result_status(wire: result_status_pb2.ResultStatus.ValueType) -> ResultStatus:
    if wire not in RESULT_FROM_WIRE:
        raise InvariantError(f"the server reports result status {wire}, in which no result ever is")
    return RESULT_FROM_WIRE[wire]
