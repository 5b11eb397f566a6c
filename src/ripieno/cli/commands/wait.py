"""The commands ``wait`` of ``ripieno session``, ``task`` and ``result``: wait for an end, and say by the exit code which.

Nothing is asked again and again: the cluster answers when it is over. A wait survives the end of a replica.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, calling, cluster_flags, show, show_one, submitter
from ripieno.cli.calling.completing import result_keys, session_ids, task_ids
from ripieno.cli.calling.terminal import name, printable, shown_error
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.cli.terms.values import Seconds
from ripieno.client import AsyncClient, Result
from ripieno.domain.changes import TaskChange
from ripieno.domain.errors import NotFoundError, RipienoError
from ripieno.domain.statuses import TaskStatus
from ripieno.domain.texts import gist
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2 as messages
from ripieno.wire.protos.v1 import tasks_pb2
from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub
from ripieno.wire.statuses import TASK_FROM_WIRE

#: Seconds for which a wait goes on while no replica answers.
_PATIENCE_S = 30.0
#: Most ids in one GetTaskStatus request.
_IDS_A_CALL = 5_000
#: Results that failed and are named with their reasons.
_NAMED = 10

T = TypeVar("T")

_timeout_flag = click.option(
    "--timeout", "timeout_s", type=Seconds(min=0), metavar="SECONDS",
    help="Give up after this, with exit code 124.  [default: never]",
)  # fmt: skip


@click.command("wait")
@click.argument("session_ids", type=name, nargs=-1, required=True, metavar="SESSION_ID...", shell_complete=session_ids)
@_timeout_flag
@cluster_flags
def wait_for_sessions(session_ids: tuple[str, ...], timeout_s: float | None, address: str, output: str) -> None:
    """Wait until all tasks of sessions are final, those that are submitted meanwhile too.

    The exit code is 0 if all completed, 1 if one did not, 124 if the time was over first.
    """

    async def wait(client: AsyncClient) -> list[tuple[str, Mapping[TaskStatus, int]]]:
        sessions = [await client.open_session(session_id) for session_id in dict.fromkeys(session_ids)]
        return [(session.id, await session.wait()) for session in sessions]

    ended = _within(address, timeout_s, "not all tasks are final", wait)
    for session_id, counts in ended:
        tasks = {status.name: counts[status] for status in TaskStatus if counts.get(status)}
        show_one({"id": session_id, "tasks": tasks}, output)
    failed = sum(count for _, counts in ended for status, count in counts.items() if status is not TaskStatus.COMPLETED)
    if failed:
        raise CommandError(f"{failed:,} tasks did not complete; `ripieno explain TASK` says why one did not")


@click.command("wait")
@click.argument("task_ids", type=name, nargs=-1, required=True, metavar="TASK_ID...", shell_complete=task_ids)
@click.option("--status", "statuses", multiple=True, type=click.Choice([status.name for status in TaskStatus], False),
              help="Wait for this status instead, such as PROCESSING; once for each that will do.")  # fmt: skip
@_timeout_flag
@cluster_flags
def wait_for_tasks(
    task_ids: tuple[str, ...], statuses: tuple[str, ...], timeout_s: float | None, address: str, output: str
) -> None:
    """Wait until tasks are final, or in a given status.

    The exit code is 0 if all completed (with --status: came to it), 1 if one did not, 124 if the time was over first.
    """
    ids = list(dict.fromkeys(task_ids))
    now = _present(address, ids)
    wanted = {TaskStatus[status.upper()] for status in statuses} or {TaskStatus.COMPLETED}
    if statuses:
        ended = _within(address, timeout_s, _not_there(wanted), lambda client: _reach(client, address, ids, wanted))
    elif all(status.final for status in now.values()):
        ended = now
    else:
        ended = _within(address, timeout_s, "not all tasks are final", lambda client: _end(client, address, ids))
    show([{"id": task_id, "status": ended[task_id].name} for task_id in ids], ["id", "status"], output)
    if missed := [task_id for task_id in ids if ended[task_id] not in wanted]:
        did_not = "complete" if not statuses else f"come to {_names(wanted)}"
        raise CommandError(f"{len(missed):,} of {len(ids):,} tasks did not {did_not}; `ripieno explain TASK` says why")


@click.command("wait")
@click.argument("session_id", type=name, shell_complete=session_ids)
@click.argument("keys", type=name, nargs=-1, required=True, metavar="KEY...", shell_complete=result_keys)
@_timeout_flag
@cluster_flags
def wait_for_results(
    session_id: str, keys: tuple[str, ...], timeout_s: float | None, address: str, output: str
) -> None:
    """Wait until results of a session are there, or never will be.

    The exit code is 0 if all are there, 1 if one was aborted or deleted, 3 if no task has announced one, 124 if the time
    was over first.
    """

    async def wait(client: AsyncClient) -> dict[str, Result[None]]:
        session = await client.open_session(session_id)
        return {result.key: result async for result in session.results(dict.fromkeys(keys), with_data=False)}

    ended = _within(address, timeout_s, "not all results are final", wait)
    errors = {key: result.error for key, result in ended.items() if result.error is not None}
    unknown = [key for key, error in errors.items() if isinstance(error, NotFoundError)]
    rows = [
        {"key": key, "status": "ABORTED" if key in errors else "COMPLETED"}
        for key in dict.fromkeys(keys)
        if key not in unknown
    ]
    if rows or output == "json":
        show(rows, ["key", "status"], output)
    for key in [key for key in errors if key not in unknown][:_NAMED]:
        click.echo(f"{printable(key)}: {printable(gist(str(errors[key])))}", err=True)
    if unknown:
        named = ", ".join(repr(printable(key)) for key in unknown)
        raise CommandError(f"session {printable(session_id)!r} has no result {named}", ExitCode.NOT_FOUND)
    if errors:
        raise CommandError(f"{len(errors):,} of {len(ended):,} results will never be there")


def _within(
    address: str, timeout_s: float | None, what: str, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]
) -> T:
    """Do work with the client SDK in a limited time; its errors become those of the command."""

    async def run() -> T:
        async with asyncio.timeout(timeout_s), AsyncClient(address, patience=_PATIENCE_S) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except TimeoutError as error:
        raise CommandError(f"{what} after {timeout_s:g} s", ExitCode.TIMED_OUT) from error
    except RipienoError as error:
        raise shown_error(error) from error


def _present(address: str, ids: Sequence[str]) -> dict[str, TaskStatus]:
    """Return the statuses of tasks.

    Raises:
        CommandError: one of them does not exist.
    """
    found: dict[str, TaskStatus] = {}
    with submitter(address) as cluster:
        for first in range(0, len(ids), _IDS_A_CALL):
            request = messages.GetTaskStatusRequest(task_ids=ids[first : first + _IDS_A_CALL])
            reply = cluster.GetTaskStatus(request, timeout=CALL_TIMEOUT_S)
            found |= {entry.task_id: TASK_FROM_WIRE[entry.status] for entry in reply.id_statuses}
    unknown = [task_id for task_id in ids if task_id not in found]
    if unknown:
        more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
        named = ", ".join(repr(printable(task_id)) for task_id in unknown[:_NAMED])
        raise CommandError(f"there is no task {named}{more}", ExitCode.NOT_FOUND)
    return found


async def _end(client: AsyncClient, address: str, ids: Sequence[str]) -> dict[str, TaskStatus]:
    [(session_id, _)] = await asyncio.to_thread(_places, address, ids[:1])
    session = await client.open_session(session_id)
    await session.wait(ids)  # of whichever session they are
    return await session.status(ids)


async def _reach(
    client: AsyncClient, address: str, ids: Sequence[str], wanted: set[TaskStatus]
) -> dict[str, TaskStatus]:
    """Wait until each task is in one of these statuses, or in a final one; return the statuses that ended the waits."""
    places = dict(zip(ids, await asyncio.to_thread(_places, address, ids), strict=True))
    asked = {task_id: alias for alias, (_, task_id) in places.items()}
    reached: dict[str, TaskStatus] = {}

    def note(statuses: Iterable[tuple[str, TaskStatus]]) -> None:
        for task_id, status in statuses:
            if task_id in asked and asked[task_id] not in reached and (status in wanted or status.final):
                reached[asked[task_id]] = status

    sessions = {session_id for session_id, _ in places.values()}
    looked = False
    async with aclosing(client.events(*sessions, snapshot=False)) as events:
        async for batch in events:
            note((each.task_id, each.status) for each in batch.changes if isinstance(each, TaskChange))
            if not looked:  # the stream has begun: whatever happens from here on is told
                looked = True
                session = await client.open_session(next(iter(sessions)))
                note((await session.status(list(asked))).items())
            if len(reached) == len(asked):
                break
    return {alias: reached[alias] for alias in ids}


def _places(address: str, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return the session and the id of each task."""
    with calling(address, TasksStub) as cluster:
        found = [cluster.Get(tasks_pb2.TaskId(task_id=task_id), timeout=CALL_TIMEOUT_S) for task_id in ids]
    return [(task.session_id, task.id) for task in found]


def _names(statuses: set[TaskStatus]) -> str:
    return " or ".join(sorted(status.name for status in statuses))


def _not_there(statuses: set[TaskStatus]) -> str:
    return f"not all tasks came to {_names(statuses)}"
