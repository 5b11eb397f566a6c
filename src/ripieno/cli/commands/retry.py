"""The command ``ripieno task retry``: another attempt for failed tasks."""

import json

import click

from ripieno.cli.calling.calls import calling, cluster_flags
from ripieno.cli.calling.completing import session_ids, task_ids
from ripieno.cli.calling.terminal import name, printable
from ripieno.cli.terms.exit_codes import ExitCode
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.language import parse_filter
from ripieno.domain.options import MAX_PRIORITY, MAX_RETRIES, MIN_PRIORITY, PARTITION_OPTION, OptionChanges
from ripieno.domain.queries import Filter
from ripieno.domain.timers import DEADLINE, MOST_SECONDS, TimerOptions, check_timers
from ripieno.wire.options import changes_to_wire
from ripieno.wire.protos.v1 import tasks_pb2
from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub
from ripieno.wire.queries import filter_to_wire

#: Most ids in one Retry request.
_IDS_A_CALL = 5_000


def _conditions(_context: click.Context, _flag: click.Parameter, text: str | None) -> Filter | None:
    """Read the value of --filter."""
    try:
        return None if text is None else parse_filter(Listed.TASKS, text)
    except InvalidRequestError as error:
        raise click.BadParameter(error.detail) from error


def _deadline(_context: click.Context, _flag: click.Parameter, text: str | None) -> str | None:
    """Check the value of --deadline."""
    try:
        check_timers("deadline", {} if text is None else {DEADLINE: text})
    except InvalidRequestError as error:
        raise click.BadParameter(error.detail.partition(": ")[2]) from error
    return text


@click.command("retry")
@click.argument("task_ids", metavar="[TASK_ID]...", type=name, nargs=-1, shell_complete=task_ids)
@click.option("--session", "session_id", type=name, shell_complete=session_ids, metavar="ID",
              help="The session whose failed tasks are retried, all of them unless some are named.")  # fmt: skip
@click.option(
    "--failed", is_flag=True, help="All failed tasks of the session, which is what --session alone means, too."
)
@click.option("--filter", "conditions", metavar="CONDITIONS", callback=_conditions,
              help="Those failed tasks of the session that match, as in `ripieno task list`.")  # fmt: skip
@click.option("--priority", type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY), help="Another priority for the tasks.")
@click.option("--max-retries", type=click.IntRange(0, MAX_RETRIES), help="How many attempts may follow the next one.")
@click.option("--max-duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Another time limit of an attempt.")  # fmt: skip
@click.option("--partition", type=name, metavar="NAME", help="Another partition for the tasks.")
@click.option("--delay", type=click.FloatRange(0, MOST_SECONDS), metavar="SECONDS",
              help="How long the tasks wait from now on before they start.")  # fmt: skip
@click.option("--deadline", metavar="SECONDS|TIME", callback=_deadline,
              help="Another deadline: seconds from now on, or a time such as 2027-01-31T18:00:00Z.")  # fmt: skip
@cluster_flags
def retry_tasks(
    task_ids: tuple[str, ...],
    session_id: str | None,
    failed: bool,
    conditions: Filter | None,
    priority: int | None,
    max_retries: int | None,
    max_duration: float | None,
    partition: str | None,
    delay: float | None,
    deadline: str | None,
    address: str,
    output: str,
) -> None:
    """Give failed tasks another attempt; whatever failed only because of them waits again.

    Tasks in ERROR or TIMEOUT are retried, those that are named or all of a session; with other options if some are
    given. Their earlier attempts stay in the history.
    """
    if bool(task_ids) + failed + (conditions is not None) > 1:
        raise click.UsageError("name tasks, or give --failed for all of a session, or --filter for some of them")
    if not task_ids and session_id is None:
        raise click.UsageError("name the tasks to retry, or with --session the session whose failed tasks are meant")
    free = {} if partition is None else {PARTITION_OPTION: partition}
    free |= TimerOptions(delay=delay).entries()
    free |= {} if deadline is None else {DEADLINE: deadline}
    changes = OptionChanges(
        None if max_duration is None else round(max_duration * 1_000_000), max_retries, priority, free
    )
    pieces = [task_ids[start : start + _IDS_A_CALL] for start in range(0, len(task_ids), _IDS_A_CALL)]
    requests = [tasks_pb2.RetryRequest(session_id=session_id or "", task_ids=ids) for ids in pieces]
    if not requests:
        matching = None if conditions is None else filter_to_wire(conditions)
        requests = [tasks_pb2.RetryRequest(session_id=session_id or "", filter=matching, all_failed=conditions is None)]
    replies = []
    with calling(address, TasksStub) as cluster:
        for request in requests:
            if changes != OptionChanges():
                request.options.CopyFrom(changes_to_wire(changes))
            replies.append(cluster.Retry(request))  # a large graph may take minutes: there is no time limit
    _show(replies, output)
    if task_ids and any(reply.not_retried_total for reply in replies):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _show(replies: list[tasks_pb2.RetryReply], output: str) -> None:
    """Print how many tasks are retried and revived, and which are not and why."""
    done = {
        "retried": sum(reply.retried for reply in replies),
        "revived": sum(reply.revived for reply in replies),
        "not_retried": sum(reply.not_retried_total for reply in replies),
    }
    refused = [each for reply in replies for each in reply.not_retried]
    if output == "json":
        reasons = [{"id": each.task_id, "reason": each.reason} for each in refused]
        click.echo(json.dumps({**done, "reasons": reasons}))
        return
    click.echo(f"{done['retried']:,} retried, {done['revived']:,} below them wait again")
    for each in refused:
        click.echo(f"not retried: task {printable(each.task_id)!r}: {printable(each.reason)}", err=True)
    if more := done["not_retried"] - len(refused):
        click.echo(f"and {more:,} more are not retried", err=True)
