"""Outputs of attempts: what their workers printed, and the values of failures, kept by the transaction that ends them."""

from collections.abc import Mapping, Sequence

from ripieno.domain.outcomes import Completions, Failed
from ripieno.domain.output import AttemptOutput
from ripieno.store.attempts.plan import Ended
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries

_SQL = Queries("outputs")

#: ``commit_plain`` with further arguments, those of ``printed_columns``.
COMMIT_PLAIN_WITH_OUTPUTS = _SQL.commit_plain_with_outputs

_Columns = tuple[list[bytes], list[bytes], list[int], list[int]]


async def keep_outputs(connection: Connection, ended: Sequence[Ended]) -> None:
    """Keep what attempts that end in this transaction have printed, and the values of their failures.

    This comes before their tasks go on to the next attempt. Where there is nothing to keep no statement runs.

    Of an attempt that was lost with its agent, that is what followers were told, if anybody followed it.
    """
    kept = [each for each in ended if each.outcome.output is not None or _value(each) is not None]
    if kept:
        await connection.execute(
            _SQL.keep_outputs,
            [each.task_no for each in kept],
            [each.row["retry"] for each in kept],
            *_columns([each.outcome.output or AttemptOutput() for each in kept]),
            [_value(each) for each in kept],
        )
    lost = [
        each for each in ended if isinstance(each.how, Failed) and not each.outcome.worker and not each.outcome.output
    ]
    if lost:
        await connection.execute(
            _SQL.keep_outputs_of_lost,
            [each.task_no for each in lost],
            [each.row["retry"] for each in lost],
            [each.outcome.ticket.claim for each in lost],
        )


async def keep_live_outputs(database: Database, outputs: Mapping[int, AttemptOutput]) -> None:
    """Keep what attempts that run have printed so far, by claim, for those who follow them. A crash may forget it."""
    await database.fetch(_SQL.keep_live_outputs, list(outputs), *_columns(list(outputs.values())))


async def forget_live_outputs(database: Database, after_s: float) -> None:
    """Drop what was kept of attempts that ran and was not written again for ``after_s`` seconds."""
    await database.fetch(_SQL.forget_live_outputs, after_s)


def printed_columns(attempts: Completions) -> tuple[list[int], list[bytes], list[bytes], list[int], list[int]]:
    """Return the numbers of the tasks whose attempts have printed something, and what they have printed."""
    numbers = dict(zip(attempts.claims, attempts.task_nos, strict=True))
    outputs = {numbers[claim]: output for claim, output in attempts.outputs.items() if claim in numbers}
    return (list(outputs), *_columns(list(outputs.values())))


def _value(each: Ended) -> bytes | None:
    return each.how.value if isinstance(each.how, Failed) else None


def _columns(outputs: Sequence[AttemptOutput]) -> _Columns:
    return (
        [output.stdout for output in outputs],
        [output.stderr for output in outputs],
        [output.stdout_left_out for output in outputs],
        [output.stderr_left_out for output in outputs],
    )
