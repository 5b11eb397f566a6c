"""``replay``: fetches an attempt of the past, runs it in this process, and tells how it compares."""

import asyncio
import pdb  # noqa: T100 - the user asks for it
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ripieno.cli.calling.terminal import printable
from ripieno.cli.replaying.comparing import Compared, compare_bytes, compare_reasons
from ripieno.cli.replaying.records import Record, SessionData, fetch_record
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.client import Client, Session
from ripieno.domain.statuses import ResultStatus, TaskStatus
from ripieno.worker import HandlerError, load_handler
from ripieno.worker.__main__ import FUNCTIONS_HANDLER
from ripieno.worker.running.handlers import is_async
from ripieno.worker.running.in_process import Outcome, run_task, run_task_async
from ripieno.worker.running.preparation import prepared, prepared_on_loop
from ripieno.worker.running.runner import AsyncHandler, Handler

#: Seconds for which a call is repeated while no server answers.
_PATIENCE_S = 10.0
_SHOWN_SUB_TASKS = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be replayed.

    Attributes:
        attempt: Number of the attempt; None is the latest.
        handler: ``MODULE:FUNCTION`` of the handler; None is that of function tasks.
        debug: Whether to open the debugger where the handler raised.
    """

    address: str
    task_id: str
    attempt: int | None
    handler: str | None
    debug: bool


def replay(wanted: Wanted) -> ExitCode:
    """Replay an attempt; return OK if it ended as is recorded, FAILED if it did not.

    Raises:
        CommandError: there is no such attempt, an input is gone, or there is no handler for it.
        StartupError: what the handler's module does once in a worker, before its first task, failed.
        RipienoError: there is no such task, its payload is gone, or no server answered.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ripieno-replay-") as folder,
        Client(wanted.address, patience=_PATIENCE_S) as client,
    ):
        record = fetch_record(client, wanted.task_id, wanted.attempt, Path(folder))
        name = _handler_of(record, wanted.handler)
        session = client.open_session(record.inputs.session_id)
        _tell(
            f"attempt {record.attempt} of task {record.inputs.task_id!r} ({record.status.name}), with {name}, in this process"
        )
        outcome = _run(record, name, session)
        _tell_sub_tasks(outcome)
        compared = _compare(record, outcome, session, Path(folder), is_function=name == FUNCTIONS_HANDLER)
        for line in compared.lines:
            _tell(line)
        if wanted.debug:
            _debug(outcome)
        return ExitCode.OK if compared.same else ExitCode.FAILED


def _handler_of(record: Record, given: str | None) -> str:
    if given is not None:
        return given
    if not record.is_function:
        raise CommandError(
            f"the payload of task {record.inputs.task_id!r} is no function: name the handler that runs such tasks with"
            " --handler MODULE:FUNCTION, as `ripieno worker` is given it",
            ExitCode.USAGE,
        )
    return FUNCTIONS_HANDLER


def _run(record: Record, name: str, session: Session) -> Outcome:
    current = str(Path.cwd())
    if sys.path[0] not in ("", current):
        sys.path.insert(0, current)  # as a worker does
    try:
        handler = load_handler(name)
    except HandlerError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    inputs = record.inputs
    given: dict[str, Any] = {
        "data": record.data,
        "options": inputs.options,
        "expected_output_keys": inputs.expected_outputs,
        "resources": SessionData(session),
        "task_id": record.attempt_id,
        "session_id": inputs.session_id,
    }
    if is_async(handler):
        return asyncio.run(_run_on_loop(handler, record.payload, given))
    with prepared():  # what a worker does before its first task
        return run_task(handler, record.payload, **given)


async def _run_on_loop(handler: Handler | AsyncHandler, payload: Path, given: dict[str, Any]) -> Outcome:
    async with prepared_on_loop():
        return await run_task_async(handler, payload, **given)


def _tell_sub_tasks(outcome: Outcome) -> None:
    for task in outcome.sub_tasks[:_SHOWN_SUB_TASKS]:
        makes = ", ".join(map(repr, task.expected_output_keys)) or "nothing"
        needs = f", needs {', '.join(map(repr, task.data_dependencies))}" if task.data_dependencies else ""
        _tell(f"would create sub-task {task.id!r}: makes {makes}{needs}, payload of {len(task.payload):,} bytes")
    if len(outcome.sub_tasks) > _SHOWN_SUB_TASKS:
        _tell(f"would create {len(outcome.sub_tasks) - _SHOWN_SUB_TASKS:,} more sub-tasks")


def _compare(record: Record, outcome: Outcome, session: Session, folder: Path, *, is_function: bool) -> Compared:
    if not record.status.final:
        lines = [f"there is nothing to compare with: the attempt is {record.status.name}", *_ended(outcome)]
        return Compared(outcome.ok, lines)
    if record.status is not TaskStatus.COMPLETED:
        if outcome.reason is not None:
            return compare_reasons(record.reason, outcome.reason)
        return Compared(
            same=False,
            lines=[
                f"it failed then ({record.status.name}) and does not fail now; recorded:",
                *_indented(record.reason),
            ],
        )
    if outcome.reason is not None:
        return Compared(same=False, lines=["it completed then and fails now:", *_indented(outcome.reason)])
    return _compare_results(record, outcome, session, folder, is_function=is_function)


def _compare_results(
    record: Record, outcome: Outcome, session: Session, folder: Path, *, is_function: bool
) -> Compared:
    same, lines = True, list[str]()
    passed_on = {key: task.id for task in outcome.sub_tasks for key in task.expected_output_keys}
    for key in record.inputs.expected_outputs:
        if key in passed_on:
            lines.append(f"result {key!r}: passed on to sub-task {passed_on[key]!r}, so it is not compared")
            continue
        status = record.results.get(key)
        if status is not ResultStatus.COMPLETED or key not in outcome.results:
            made = "made" if key in outcome.results else "not made"
            was = "not made" if status is ResultStatus.ABORTED else "unknown" if status is None else status.name
            lines.append(f"result {key!r}: {made} now; recorded: {was}")
            same = same and made == was
            continue
        path = folder / "recorded"
        session.download(key, path)
        with path.open("rb") as recorded, outcome.results.open(key) as now:
            compared = compare_bytes(recorded, now, pickled=is_function)
        same = same and compared.same
        first, *rest = compared.lines
        lines += [f"result {key!r}: {first}", *(f"    {line}" for line in rest)]
    return Compared(same, lines or ["it makes no result, as is recorded"])


def _ended(outcome: Outcome) -> Sequence[str]:
    if outcome.reason is not None:
        return ["it fails now:", *_indented(outcome.reason)]
    return [
        f"it completes now: {', '.join(f'{key!r} of {outcome.results.size(key):,} bytes' for key in outcome.results) or 'no result'}"
    ]


def _debug(outcome: Outcome) -> None:
    if outcome.error is None or outcome.error.__traceback__ is None:
        _tell("there is nothing to debug: the handler raised nothing")
        return
    pdb.post_mortem(outcome.error.__traceback__)


def _indented(text: str) -> list[str]:
    return [f"    {printable(line)}" for line in text.split("\n")]


def _tell(line: str) -> None:
    click.echo(line, err=True)
