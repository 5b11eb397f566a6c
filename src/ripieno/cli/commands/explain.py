"""The command ``ripieno explain``: why a task is not running, or why it failed."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

from ripieno.cli.calling.calls import CALL_TIMEOUT_S, calling, cluster_flags, show
from ripieno.cli.calling.completing import task_ids
from ripieno.cli.calling.records import plain
from ripieno.cli.calling.terminal import name, printable
from ripieno.domain.explanations import AttemptTold, Explanation, InputFailed
from ripieno.domain.sentences import length
from ripieno.wire.explanations import explanation_from_wire
from ripieno.wire.protos.v1 import tasks_pb2
from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub

#: A command in a sentence.
_COMMAND = re.compile(r"`[^`]*`")
_COLUMNS = ["attempt", "status", "agent", "worker", "began", "took", "reason"]


@click.command("explain")
@click.argument("task_id", type=name, shell_complete=task_ids)
@cluster_flags
def command(task_id: str, address: str, output: str) -> None:
    """Why a task is not running, or why it failed: what it waits for, what broke, and the way out.

    With --output json each reason has a kind, its sentence, and what it is about; docs/cli.md lists the kinds.
    """
    with calling(address, TasksStub) as cluster:
        message = cluster.Explain(tasks_pb2.TaskId(task_id=task_id), timeout=CALL_TIMEOUT_S)
    explanation = explanation_from_wire(message)
    if output == "json":
        click.echo(json.dumps(plain(explanation)))
    else:
        _tell(explanation)


def _tell(explanation: Explanation) -> None:
    attempt = f", attempt {explanation.attempt}" if explanation.attempt else ""
    _sentence(f"task {explanation.task_id!r} of session {explanation.session_id!r}: {explanation.status.name}{attempt}")
    for reason in explanation.reasons:
        _sentence(reason.sentence)
    _history("attempts", explanation.attempts, explanation.attempts_total)
    for reason in explanation.reasons:
        if isinstance(reason.about, InputFailed):
            root = reason.about.chain[-1].task_id
            _history(f"attempts of task {printable(root)!r}", reason.about.attempts, reason.about.attempts_total)


def _sentence(text: str) -> None:
    """Print a sentence: on a terminal in lines of its width, else in one line, for programs that search for words."""
    line = printable(text)
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, 20)
        whole = _COMMAND.sub(lambda command: command[0].replace(" ", "\0"), line)  # not broken: they are to be copied
        line = textwrap.fill(whole, width, break_long_words=False, break_on_hyphens=False).replace("\0", " ")
    click.echo(line)


def _history(title: str, attempts: Sequence[AttemptTold], total: int) -> None:
    if not attempts:
        return
    click.echo(f"\n{title}" + (f", the latest {len(attempts)} of {total:,}" if total > len(attempts) else ""))
    show([_row(attempt) for attempt in attempts], _COLUMNS, "text")


def _row(attempt: AttemptTold) -> dict[str, object]:
    took = attempt.ended_at - attempt.began_at if attempt.began_at and attempt.ended_at else None
    began = attempt.began_at or attempt.claimed_at
    return {
        "attempt": attempt.number,
        "status": attempt.status.name,
        "agent": attempt.agent or "-",
        "worker": attempt.worker or "-",
        "began": f"{began.astimezone():%Y-%m-%d %H:%M:%S}" if began else "-",
        "took": length(took) if took is not None else "-",
        "reason": attempt.reason,
    }
