"""Running a map from its start or from where an earlier run has come, and ending it on signals and errors."""

import asyncio
import hashlib
import signal
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from ripieno.cli.calling.addresses import how_to_start
from ripieno.cli.calling.terminal import one_line
from ripieno.cli.mapping.inputs import Arguments, Input, Lines
from ripieno.cli.mapping.jobs import Job
from ripieno.cli.mapping.reading import in_thread
from ripieno.cli.mapping.reports import Report, wants_bar
from ripieno.cli.mapping.runs import Run, StoppedAtFailureError, Wanted
from ripieno.cli.mapping.sessions import session_of
from ripieno.cli.mapping.sinks import Point, Sink, sink_of
from ripieno.cli.terms.exit_codes import CommandError, ExitCode, code_of_error
from ripieno.client import AsyncClient, AsyncSession, OverloadedError, RipienoError, UnavailableError
from ripieno.config import ADDRESS_VARIABLE

T = TypeVar("T")

#: A cluster that does not answer the first call within this many seconds is taken for absent.
_FIRST_PATIENCE_S = 5.0
#: Seconds for which a run waits while no server answers.
_PATIENCE_S = 600.0
#: Seconds that pausing the session may take at the end of a run that was stopped.
_PAUSE_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Start:
    """What is to be run.

    Attributes:
        name: The name of the job.
        fresh: Whether what earlier runs have made is deleted, and everything runs anew.
        output: The file of the results; None is standard output.
    """

    address: str
    job: Job
    source: Arguments | Lines
    name: str
    fresh: bool
    wanted: Wanted
    output: Path | None


class _Signals:
    """Stop signals: the first one stops the run, the second one has its usual effect."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()

    def handle(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._on_signal)
            except NotImplementedError:  # Windows: Ctrl-C is a KeyboardInterrupt there
                return

    def _on_signal(self) -> None:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        self.stopped.set()


async def run_map(start: Start) -> ExitCode:
    """Run a map; return the exit code of the command: OK, FAILED if an input has failed, INTERRUPTED by a stop signal.

    Raises:
        CommandError: no cluster answers, or it refused something.
        click.UsageError: an input is none.
        OSError: inputs cannot be read, or results cannot be written.
    """
    signals = _Signals()
    signals.handle()
    sink = sink_of(start.output)
    try:
        async with AsyncClient(start.address, patience=_PATIENCE_S) as client:
            await _unless(signals.stopped, _greet(start.address))
            opening = session_of(client, start.name, start.wanted.options, fresh=start.fresh)
            session, is_known = await _unless(signals.stopped, opening)
            report = Report(start.source.count(), bar=wants_bar(prints_results=start.output is None))
            try:
                return await _run(start, session, sink, report, signals, is_known=is_known)
            finally:
                report.close()
    finally:
        sink.close()


async def _unless(stopped: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, unless the run is stopped before that.

    Raises:
        click.Abort: the run was stopped.
    """
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait([working])
    if working.cancelled():
        raise click.Abort
    return working.result()


async def _greet(address: str) -> None:
    """Make sure that a cluster answers, without much patience."""
    try:
        async with AsyncClient(address, patience=_FIRST_PATIENCE_S) as client:
            async for _ in client.list_sessions(limit=1):
                break
    except UnavailableError as error:
        raise CommandError(
            f"no answer from {address}: start a cluster there with {how_to_start(address)}, name another one with --address or"
            f" {ADDRESS_VARIABLE}, or give --local for one of this run alone ({one_line(error.detail)})",
            ExitCode.NO_ANSWER,
        ) from error


async def _run(
    start: Start, session: AsyncSession, sink: Sink, report: Report, signals: _Signals, *, is_known: bool
) -> ExitCode:
    batches, point, digest = await asyncio.to_thread(positioned, start, session.id, sink, is_known)
    sink.begin(point)
    done = 0 if point is None else point.inputs
    report.counted.done = report.counted.known = done
    run = Run(session, start.job, start.wanted, sink, report, is_known=is_known, done=done, digest=digest)
    error: BaseException | None = None
    try:
        await _unless(signals.stopped, run.run(in_thread(batches)))
    except Exception as ended:  # noqa: BLE001 - the session is paused before it is told or raised
        error = ended
    return await _ended(start, session, sink, report, error)


async def _ended(
    start: Start,
    session: AsyncSession,
    sink: Sink,
    report: Report,
    error: BaseException | None,
) -> ExitCode:
    """Tell how a run has ended, and pause the session unless all is done; return the exit code."""
    had_bar = report.close()
    if isinstance(error, click.Abort):
        await _pause(session)
        report.tell(f"stopped: {report.in_words()}; the same command goes on from here (session {session.id})")
        return ExitCode.INTERRUPTED
    if error is None:
        if report.counted.known:
            report.tell(f"{report.in_words()}; --fresh runs all anew (session {session.id})")
        elif had_bar:
            report.tell(report.in_words())
        if report.counted.failed:
            report.tell(f"{report.counted.failed:,} of {report.counted.total:,} inputs failed; {_again(start)}")
            if sink.partial is not None:
                report.tell(f"the results of the others are in {sink.partial}")
        return ExitCode.FAILED if report.counted.failed else ExitCode.OK
    if isinstance(error, UnavailableError | OverloadedError):
        text = f"{one_line(error.detail)}; what was submitted goes on, and the same command fetches it"
        raise CommandError(text, code_of_error(error)) from error
    await _pause(session)
    if isinstance(error, StoppedAtFailureError):
        report.tell(f"stopped at a failure: {report.in_words()}; {_again(start)}")
        return ExitCode.FAILED
    if isinstance(error, RipienoError):
        raise CommandError(f"{one_line(error.detail)} (session {session.id})", code_of_error(error)) from error
    raise error


def _again(start: Start) -> str:
    again = "runs them again" if start.wanted.retry_failed else "with --retry-failed runs them again"
    return f"the same command {again}"


async def _pause(session: AsyncSession) -> None:
    """Pause the session, so that nothing begins that nobody waits for; the next run resumes it."""
    try:
        async with asyncio.timeout(_PAUSE_LIMIT_S):
            await session.pause()
    except (RipienoError, TimeoutError) as error:
        click.echo(f"the session {session.id} could not be paused, so what was submitted goes on ({error})", err=True)


def positioned(
    start: Start, session_id: str, sink: Sink, is_known: bool
) -> tuple[Iterator[list[Input]], Point | None, "hashlib._Hash"]:
    """Return the inputs behind those whose results are written already, and the point up to which they are."""
    source, digest = start.source, _digest(start.job)
    point = sink.point(session_id) if is_known and source.rereadable else None
    if point is None:
        return source.batches(), None, digest
    batches, left, rest = source.batches(), point.inputs, list[Input]()
    while left and (batch := next(batches, None)) is not None:
        for given in batch[:left]:
            digest.update(start.job.task_id(session_id, given).encode() + b"\n")
        rest = batch[left:]
        left -= min(left, len(batch))
    if left or digest.hexdigest() != point.digest:
        return source.batches(), None, _digest(start.job)  # other inputs than those of that run, or another shape
    return chain([rest] if rest else [], batches), point, digest


def _digest(job: Job) -> "hashlib._Hash":
    """Return the digest of no inputs: what was written in another shape is not gone on with."""
    return hashlib.sha256(b"tagged\n" if job.tag else b"")
