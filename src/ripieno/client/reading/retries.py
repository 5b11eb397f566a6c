"""Retries of failed tasks: the calls, and what they have done."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ripieno.client.connection.connection import Connection
from ripieno.client.connection.cutting import in_pieces
from ripieno.client.terms.definitions import OptionChanges
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import ConflictError
from ripieno.domain.language import parse_filter
from ripieno.wire.options import changes_to_wire
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc
from ripieno.wire.queries import filter_to_wire

_IDS_A_CALL = 2_000


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry has done.

    Attributes:
        retried: How many tasks have another attempt.
        revived: How many tasks below them, which had failed only because of them, wait again.
        not_retried: How many tasks that were asked for are not retried, or are still in ERROR.
        reasons: Why not, by task id; of 1,000 of them where they are more.
    """

    retried: int
    revived: int
    not_retried: int
    reasons: Mapping[str, str]


async def retry_tasks(
    connection: Connection, session_id: str, task_ids: Sequence[str], changes: OptionChanges | None
) -> Retried:
    """Retry tasks of a session; without ids no call is made."""

    async def ask(ids: Sequence[str]) -> tasks_pb2.RetryReply:
        return await _call(connection, tasks_pb2.RetryRequest(session_id=session_id, task_ids=ids), changes)

    replies: list[tasks_pb2.RetryReply] = []
    for start in range(0, len(task_ids), _IDS_A_CALL):
        replies += await in_pieces(ask, task_ids[start : start + _IDS_A_CALL])
    return _added_up(replies)


async def retry_failed(
    connection: Connection, session_id: str, changes: OptionChanges | None, text: str | None
) -> Retried:
    """Retry tasks of a session that failed by themselves: all, or those that match the filter that a text says."""
    request = tasks_pb2.RetryRequest(session_id=session_id, all_failed=text is None)
    if text is not None:
        request.filter.CopyFrom(filter_to_wire(parse_filter(Listed.TASKS, text, "filter")))
    return _added_up([await _call(connection, request, changes)])


def refuse(task_id: str, retried: Retried) -> None:
    """Raise a ConflictError if a task was not retried."""
    if retried.not_retried:
        raise ConflictError(f"task {task_id!r} is not retried: {retried.reasons.get(task_id, 'its id is not known')}")


async def _call(
    connection: Connection, request: tasks_pb2.RetryRequest, changes: OptionChanges | None
) -> tasks_pb2.RetryReply:
    if changes is not None:
        request.options.CopyFrom(changes_to_wire(changes.checked()))
    return await connection.call("retry tasks", connection.stub(tasks_pb2_grpc.TasksStub).Retry, request)


def _added_up(replies: Iterable[tasks_pb2.RetryReply]) -> Retried:
    retried = revived = not_retried = 0
    reasons: dict[str, str] = {}
    for reply in replies:
        retried += reply.retried
        revived += reply.revived
        not_retried += reply.not_retried_total
        reasons |= {each.task_id: each.reason for each in reply.not_retried}
    return Retried(retried, revived, not_retried, reasons)
