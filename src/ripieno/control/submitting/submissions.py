"""Group commit of submissions: small calls share transactions, large ones have their own beside them."""

import asyncio
from collections.abc import Sequence

from ripieno.config import ControlSettings
from ripieno.control.agents.dispatcher import Credit, Dispatcher
from ripieno.control.calls.arrivals import Arrivals
from ripieno.control.calls.batching import Batcher
from ripieno.control.calls.limits import ControlLimits, check_options
from ripieno.control.calls.quotas import Quotas, payload_bytes
from ripieno.control.submitting.streamed_submission import Requests, StreamedSubmission
from ripieno.control.waiting.fresh_keys import FreshKeys, Heard
from ripieno.control.waiting.notices import Notices
from ripieno.domain.errors import InvalidRequestError, InvariantError, RipienoError
from ripieno.domain.options import TaskOptions
from ripieno.domain.submission import NewTask
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database, NotPlainError
from ripieno.store.sessions.sessions import KnownOptions, KnownSession, Sessions
from ripieno.store.submitting.submission import SubmissionCall, submit, submit_and_claim

#: The greatest weight of one transaction: about 2,000 small tasks, or 8 MiB. A call that is heavier has a transaction
#: of its own, one of them at a time, so that the others go on beside it.
_LARGEST_FLUSH = 2_000
#: This many keys, or bytes, weigh as much as a task.
_KEYS_A_TASK = 4
_BYTES_A_TASK = 4_096

#: Transactions of small calls under way at once: while one waits for the disk the next is written.
_FLUSHES = 2


class Submissions:
    """Writes submissions to the store, publishes the changes, and hands new tasks to agents with credit."""

    def __init__(
        self,
        settings: ControlSettings,
        database: Database,
        sessions: Sessions,
        notices: Notices,
        dispatcher: Dispatcher,
        limits: ControlLimits,
        arrivals: Arrivals,
        quotas: Quotas,
        fresh: FreshKeys,
    ) -> None:
        self._fresh = fresh
        self._settings = settings
        self._dispatcher = dispatcher
        self._database = database
        self._sessions = sessions
        self._notices = notices
        self._limits = limits
        self._arrivals = arrivals
        self._quotas = quotas
        self._batcher = self._lane(_FLUSHES)
        self._large = self._lane(1)

    def _lane(self, flushes: int) -> "Batcher[tuple[SubmissionCall, int], RipienoError | None]":
        return Batcher(self._flush, weigh=lambda weighed: weighed[1], largest=_LARGEST_FLUSH, flushes=flushes)

    async def run(self) -> None:
        """Write submissions until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._batcher.run())
            group.create_task(self._large.run())

    async def submit(
        self,
        session_id: str,
        options: TaskOptions | None,
        tasks: Sequence[NewTask],
        size_bytes: int,
        own_options: Sequence[TaskOptions | None] | None = None,
    ) -> None:
        """Create all of the tasks or none; they are durable when this returns.

        A call whose client goes away before its tasks begin to be written creates none.

        Args:
            options: Options of the tasks; None for the session's.
            size_bytes: About how many bytes the tasks take, with their payloads.
            own_options: Options of each task, None for ``options``; where no task has any, nothing.

        Raises:
            NotFoundError: if there is no such session.
            SubmissionStoppedError: if the session takes no more tasks; nothing was created.
            AlreadyExistsError: if an id or a result key is taken; nothing was created.
            LimitError, OverloadedError: if the call or the session is beyond a limit; nothing was created.
        """
        keys = sum([len(task.expected_output_keys) + len(task.data_dependencies) for task in tasks])
        self._limits.keys_per_call.check(keys)
        session = await self._sessions.find(session_id)
        known = await self._known_options(session, options)
        await self._quotas.admit(session.session_no, len(tasks), payload_bytes(tasks))
        call = SubmissionCall(session, known, tasks, await self._options_of_each(session, known, own_options))
        weight = len(tasks) + keys // _KEYS_A_TASK + size_bytes // _BYTES_A_TASK
        fault = await (self._batcher if weight <= _LARGEST_FLUSH else self._large).put((call, weight))
        if fault is not None:
            try:
                raise fault
            finally:
                del fault  # a cycle with this frame would keep the tasks in memory

    async def _known_options(self, session: KnownSession, options: TaskOptions | None) -> KnownOptions:
        if options is None:
            return session.default
        check_options(self._limits, options)
        return await self._sessions.intern_options(session, options)

    async def _options_of_each(
        self, session: KnownSession, default: KnownOptions, own: Sequence[TaskOptions | None] | None
    ) -> Sequence[KnownOptions] | None:
        if own is None:
            return None
        return [default if each is None else await self._known_options(session, each) for each in own]

    async def submit_stream(self, requests: Requests, objects: ObjectStore) -> None:
        """Read one streamed submission and create its tasks.

        Returns on ``last_task`` without waiting for the client's half-close.

        Raises:
            InvalidRequestError: if the stream breaks the grammar; nothing was created.
            LimitError, OverloadedError: if the stream is beyond a limit or finds no room; nothing was created.
            NotFoundError, SubmissionStoppedError, AlreadyExistsError: as for ``submit``.
        """
        stream = StreamedSubmission(
            requests,
            objects,
            chunk_limit_bytes=self._settings.data_chunk_max_size,
            inline_limit_bytes=self._settings.inline_limit_bytes,
            limits=self._limits,
            arrivals=self._arrivals,
        )
        async with stream:
            session_id, options = await stream.begin()
            # An unknown session fails the call before its payloads travel, not after.
            await self._sessions.find(session_id)
            tasks = [task async for task in stream.tasks()]
            await self.submit(session_id, options, tasks, stream.held_bytes)

    async def _flush(self, weighed: Sequence[tuple[SubmissionCall, int]]) -> Sequence[RipienoError | None]:
        with self._fresh.listening() as heard:
            return await self._write([call for call, _ in weighed], heard)

    async def _write(self, calls: Sequence[SubmissionCall], heard: Heard) -> Sequence[RipienoError | None]:
        if (credit := self._credit_for(calls)) is not None:
            try:
                changes, claimed = await submit_and_claim(self._database, calls, credit.agents)
            except (NotPlainError, InvalidRequestError, InvariantError):
                # Nothing was written. If one of the calls is at fault, ``submit`` below finds out which.
                self._dispatcher.give_back(credit)
            except BaseException:
                self._dispatcher.give_back(credit)
                raise
            else:
                self._fresh.created(changes.created, heard)
                self._notices.publish(changes)
                await self._dispatcher.hand_out(claimed, credit)
                return [None] * len(calls)
        faults, changes = await submit(self._database, calls)
        self._fresh.created(changes.created, heard)
        self._notices.publish(changes)
        for call, fault in zip(calls, faults, strict=True):
            for partition, priority in call.urgency if fault is None else ():
                if partition in changes.partitions:  # not where the session is paused
                    self._dispatcher.submitted(partition, priority)
        return faults

    def _credit_for(self, calls: Sequence[SubmissionCall]) -> Credit | None:
        """Take credit for the tasks of all calls; None if they cannot be claimed as they are written.

        They can if they are of one partition, have neither data dependencies nor timers, only inline payloads, and agents have
        enough credit, for which no other tasks wait.
        """
        partition = calls[0].options.options.partition
        if not all(
            call.options.options.partition == partition
            and call.own_options is None
            and call.is_free
            and call.is_inline
            and not call.sets_timers
            for call in calls
        ):
            return None
        return self._dispatcher.take_for_new(partition, sum(len(call.tasks) for call in calls))
