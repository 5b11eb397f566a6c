"""``Run``: one run of a map: submits ahead, follows what it has submitted, and writes results in order.

::

    batches ──> submit ──> window of batches ──> write ──> sink
                  |                                ^
                  '──> follow (one stream a batch) ┘
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from ripieno.cli.mapping.inputs import Input
from ripieno.cli.mapping.jobs import Job
from ripieno.cli.mapping.reports import Report
from ripieno.cli.mapping.sinks import Sink
from ripieno.cli.mapping.window import Batch, Entry, State, Window
from ripieno.client import AsyncSession, OptionChanges, Result, TaskDefinition, TaskFailedError, TaskOptions, TaskStatus
from ripieno.worker.mapped.command import CommandFailed

#: Bytes that are gathered before they are written.
_WRITTEN_AT_ONCE = 1024 * 1024
#: Results that were dropped and are asked for again at once.
_AGAIN_AT_ONCE = 256

#: How the reason of a failed command begins, which says nothing to whoever gave the command.
_COMMAND_FAILED = f"{CommandFailed.__module__}.{CommandFailed.__qualname__}: "

T = TypeVar("T")


class StoppedAtFailureError(Exception):
    """An input has failed, and no more is to be submitted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a run goes.

    Attributes:
        options: The options of tasks that are created.
        changes: What is different for failed tasks that are run again; None for nothing.
        retry_failed: Whether failed tasks of earlier runs are run again.
        keep_going: Whether the others are run when an input has failed.
    """

    options: TaskOptions
    changes: OptionChanges | None
    retry_failed: bool
    keep_going: bool


class Run:
    """One run.

    Args:
        session: The session of the job.
        is_known: Whether the session was there before this run, so that tasks may be there already.
        job: What is done to each input.
        wanted: How the run goes.
        sink: Where results go.
        report: Where failures are told and progress is counted.
        done: So many of the first inputs are written already; they are not among the batches of ``run``.
        digest: Digest of the ids of their tasks so far.
    """

    def __init__(
        self,
        session: AsyncSession,
        job: Job,
        wanted: Wanted,
        sink: Sink,
        report: Report,
        *,
        is_known: bool,
        done: int = 0,
        digest: "hashlib._Hash | None" = None,
    ) -> None:
        self._session = session
        self._is_known = is_known
        self._job = job
        self._wanted = wanted
        self._sink = sink
        self._report = report
        self._window = Window()
        self._order: asyncio.Queue[Batch | None] = asyncio.Queue()
        #: Inputs that are written without a failure among them or before them, and the digest of their ids.
        self._whole = done
        self._digest = hashlib.sha256() if digest is None else digest
        self._has_failed = False
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ripieno-sink")

    async def run(self, batches: AsyncIterator[list[Input]]) -> None:
        """Run the job on all inputs, and write what comes of it.

        All results are written when this returns; the sink is finished unless an input has failed.

        Raises:
            StoppedAtFailureError: an input has failed, and the run does not keep going.
            RipienoError: the cluster refused something, or none answered.
            OSError: inputs cannot be read, or results cannot be written.
            click.UsageError: an input is none.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._submit_all(batches, group))
                group.create_task(self._write_all())
        except BaseExceptionGroup as several:
            raise _first(several) from None
        finally:
            self._writer.shutdown(wait=False)

    # ------------------------------------------------------------ to the cluster

    async def _submit_all(self, batches: AsyncIterator[list[Input]], group: asyncio.TaskGroup) -> None:
        seen = self._whole
        async for inputs in batches:
            batch = Batch([Entry(each, self._job.task_id(self._session.id, each)) for each in inputs])
            await self._window.enter(batch)
            await self._submit(batch)
            group.create_task(self._follow(batch))
            self._order.put_nowait(batch)
            seen += len(inputs)
        self._report.counted.total = seen
        self._order.put_nowait(None)

    async def _submit(self, batch: Batch) -> None:
        """Create the tasks that are not there, and retry those that failed in an earlier run."""
        new = batch.entries
        if self._is_known:
            statuses = await self._session.status([entry.task_id for entry in batch.entries])
            new = [entry for entry in batch.entries if entry.task_id not in statuses]
            self._report.counted.known += sum(status is TaskStatus.COMPLETED for status in statuses.values())
            failed = [name for name, status in statuses.items() if status in (TaskStatus.ERROR, TaskStatus.TIMEOUT)]
            if failed and self._wanted.retry_failed:
                await self._session.retry(failed, self._wanted.changes)
        if new:
            tasks = [TaskDefinition(self._job.payload(entry.given), id=entry.task_id) for entry in new]
            await self._session.submit_many(tasks, task_options=self._wanted.options)

    async def _follow(self, batch: Batch) -> None:
        """Note what becomes of each task of a batch."""
        entries = {entry.task_id: entry for entry in batch.entries}
        async with aclosing(self._session.result_batches(list(entries), large_data=False)) as final:
            async for results in final:
                for result in results:
                    self._note(entries[result.key], result)
                batch.changed.set()
                self._report.show()

    def _note(self, entry: Entry, result: Result[None]) -> None:
        if result.error is None:
            entry.state = State.DONE
            entry.is_large = not result.has_data
            if result.has_data:
                self._window.hold(entry, result.data)
            self._report.counted.done += 1
            return
        entry.state = State.FAILED
        entry.reason = result.error.detail
        if isinstance(result.error, TaskFailedError) and result.error.attempts:
            entry.reason = result.error.attempts[-1].detail.removeprefix(_COMMAND_FAILED)
            entry.attempts = len(result.error.attempts)
        self._report.counted.failed += 1
        if not self._wanted.keep_going:
            self._tell_failure(entry)
            raise StoppedAtFailureError

    def _tell_failure(self, entry: Entry) -> None:
        given = entry.given
        self._report.failure(given.number, given.text, entry.reason, entry.task_id, entry.attempts)

    # ------------------------------------------------------------ to the sink

    async def _write_all(self) -> None:
        while (batch := await self._order.get()) is not None:
            for place, entry in enumerate(batch.entries):
                while entry.state is State.WAITING:
                    batch.changed.clear()
                    await self._flush(mark=True)
                    if entry.state is State.WAITING:
                        await batch.changed.wait()
                if entry.state is State.FAILED:
                    self._write_failure(entry)
                else:
                    await self._write_result(batch, place)
                self._note_written(entry)
                if self._pieces_bytes >= _WRITTEN_AT_ONCE:
                    await self._flush(mark=True)
            self._window.leave(batch)
        await self._flush(mark=True)
        if not self._has_failed:
            await self._in_writer(self._sink.finish)

    def _write_failure(self, entry: Entry) -> None:
        self._tell_failure(entry)
        self._has_failed = True
        self._put(self._job.failure_line(entry.given, entry.reason))

    async def _write_result(self, batch: Batch, place: int) -> None:
        entry = batch.entries[place]
        dressing = self._job.dressing(entry.given)
        if entry.data is None and not entry.is_large:
            await self._ask_again(batch, place)
        data = self._window.release(entry)
        if data is not None:
            self._put(dressing.whole(data))
            return
        self._put(dressing.begin())
        async with aclosing(self._session.result_chunks(entry.task_id)) as chunks:
            async for chunk in chunks:
                self._put(dressing.piece(chunk))
                if self._pieces_bytes >= _WRITTEN_AT_ONCE:
                    await self._flush(mark=False)
        self._put(dressing.end())

    async def _ask_again(self, batch: Batch, place: int) -> None:
        """Fetch this and the next results of a batch that were dropped for want of room, as far as there is room now."""
        some = batch.entries[place : place + _AGAIN_AT_ONCE]
        dropped = {
            entry.task_id: entry
            for entry in some
            if entry.state is State.DONE and entry.data is None and not entry.is_large
        }
        async with aclosing(self._session.result_batches(list(dropped), large_data=False)) as again:
            async for results in again:
                for result in results:
                    if result.has_data:
                        self._window.hold(dropped[result.key], result.data)

    def _note_written(self, entry: Entry) -> None:
        if not self._has_failed:
            self._whole += 1
            self._digest.update(entry.task_id.encode() + b"\n")

    def _put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._pieces_bytes += len(data)

    async def _flush(self, *, mark: bool) -> None:
        """Write what was gathered; to ``mark`` it, all of an input or nothing is among it."""
        if not self._pieces_bytes:
            return
        data, self._pieces, self._pieces_bytes = b"".join(self._pieces), [], 0
        inputs, digest = self._whole, self._digest.hexdigest()
        can_go_on = mark and not self._has_failed

        def write() -> None:
            self._sink.write(data)
            self._sink.hand_on()
            if can_go_on:
                self._sink.mark(self._session.id, inputs, digest)

        await self._in_writer(write)

    async def _in_writer(self, work: Callable[[], T]) -> T:
        """Run blocking work in the thread of the sink; wait for it even when cancelled, so that nothing is cut in two."""
        done = asyncio.get_running_loop().run_in_executor(self._writer, work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await _settled(done)
            raise


async def _settled(work: Awaitable[object]) -> None:
    await asyncio.wait([asyncio.ensure_future(work)])


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended the others."""
    first: BaseException = several
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
