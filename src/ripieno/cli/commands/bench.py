"""The command ``ripieno bench``: measures how fast any cluster is."""

from importlib.util import find_spec
from pathlib import Path

import click

from ripieno.cli.calling.calls import cluster_flags, show_one
from ripieno.cli.calling.terminal import name, shown_error
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.cli.terms.values import Seconds

#: Largest payload or result in bytes: pickling and gRPC add to it, and a submission call is cut at 2 MiB.
LARGEST_BYTES = 1024 * 1024


@click.command("bench")
@click.option("--tasks", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True,
              help="How many to submit together, 1,000 a call.")  # fmt: skip
@click.option("--singles", type=click.IntRange(0, 100_000), default=100, show_default=True,
              help="How many to run one at a time before that, for the latency.")  # fmt: skip
@click.option("--task-time", "task_s", type=Seconds(0, 60), metavar="SECONDS", default=0.0, show_default=True,
              help="How long each task sleeps.")  # fmt: skip
@click.option("--payload-bytes", type=click.IntRange(0, LARGEST_BYTES), default=100, show_default=True,
              help="Padding of each payload.")  # fmt: skip
@click.option("--result-bytes", type=click.IntRange(0, LARGEST_BYTES), default=100, show_default=True,
              help="Size of each result.")  # fmt: skip
@click.option("--payload", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Payload of every task, for workers of your own; without it: a function, for the default Python worker.")  # fmt: skip
@click.option("--partition", type=name, metavar="NAME", help="Partition to run in.  [default: the default partition]")
@click.option("--limit", "limit_s", type=Seconds(1, 3_600), metavar="SECONDS", default=60.0, show_default=True,
              help="Give up, and cancel the rest, after this.")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Draw the rate over time into this file, as PNG.")  # fmt: skip
@cluster_flags
def command(
    tasks: int,
    singles: int,
    task_s: float,
    payload_bytes: int,
    result_bytes: int,
    payload: Path | None,
    partition: str | None,
    limit_s: float,
    plot: Path | None,
    address: str,
    output: str,
) -> None:
    """How fast a cluster is: rate, latency of one task alone, how busy its workers are.

    It runs tasks in a session of its own, which it cancels at the end; finished tasks stay
    in the database as any others do. The tasks are functions for the worker that `ripieno
    up` starts by default; for workers of your own give a --payload that they understand.
    With a --task-time it tells how busy the workers were. The exit code is 1 if a task failed, and 124 if the
    time of --limit passed.
    """
    if plot is not None and find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install matplotlib, or leave the flag out")
    from ripieno.cli.bench.bench_load import Load, OutOfTimeError, run_load
    from ripieno.cli.bench.bench_report import rows, summary
    from ripieno.domain.errors import RipienoError

    load = Load(
        tasks=tasks,
        singles=singles,
        payload=None if payload is None else payload.read_bytes(),
        task_s=task_s,
        payload_bytes=payload_bytes,
        result_bytes=result_bytes,
        partition=partition,
        limit_s=limit_s,
    )
    try:
        measured = run_load(address, load)
    except OutOfTimeError as error:
        raise CommandError(f"{error}; raise --limit, or run fewer --tasks", ExitCode.TIMED_OUT) from error
    except RipienoError as error:
        raise shown_error(error) from error
    found = summary(load, measured)
    show_one(found if output == "json" else rows(found), output)
    if plot is not None:
        _draw(found, plot)
    if measured.failed:
        raise CommandError(f"{measured.failed:,} tasks failed, the first because {measured.first_failure}")


def _draw(found: dict[str, object], target: Path) -> None:
    from ripieno.cli.bench.bench_plot import draw

    try:
        draw(found, target)
    except OSError as error:
        raise click.BadParameter(
            f"cannot write {str(target)!r}: {error.strerror}; name another file", param_hint="--plot"
        ) from error
