"""Fetches the data that attempts read: dependencies before they begin, and data that their workers ask for.

Results are fetched in batches: those that are wanted while a fetch is under way go into the
next one. Small results are cached by session and key; large ones are in the ``Spool``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import grpc.aio

from ripieno.agent.attempts.attempt import Attempt, Input, Spooled
from ripieno.agent.conversation.effects import DataKind
from ripieno.agent.data.cache import DataCache, ProducedCache, ResultKey
from ripieno.agent.data.spool import ObjectGoneError, Spool
from ripieno.agent.scheduling.dispatcher import HELD_BYTES, Dispatcher
from ripieno.agent.scheduling.faults import MachineFaultError, contained, end_attempt, is_refusal
from ripieno.agent.transport.channels import describe, reraise_own_cancellation
from ripieno.agent.uplink.link import Link
from ripieno.background import Setback
from ripieno.domain.data import Data, ObjectDirectory, StoredObject
from ripieno.domain.errors import UnavailableError
from ripieno.wire.protos.v1 import agent_pb2

#: Most keys in one request.
_BATCH = 1_000
#: Attempts with more inline data than this are fed piece by piece, like those with files.
SENT_AT_ONCE_BYTES = 1024 * 1024
#: Most inline data that one attempt keeps in memory while it waits for more; further data goes to the disk.
KEPT_BYTES = 4 * 1024 * 1024


class DataUnavailableError(Exception):
    """A result is unknown, not completed, deleted, or not on this agent; the text says which.

    Attributes:
        for_good: Whether another attempt would find the same.
    """

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


Delivery = Callable[[Data | DataUnavailableError], None]


class Inputs:
    """Fetches and caches the data that attempts need. Belongs to the event loop's thread."""

    def __init__(self, dispatcher: Dispatcher, link: Link, spool: Spool, cache_bytes: int) -> None:
        self.produced = ProducedCache(cache_bytes // 2)
        self._dispatcher = dispatcher
        self._link = link
        self._spool = spool
        self._cache = DataCache(cache_bytes)
        self._common = DataCache(cache_bytes)
        self._common_locks: dict[ResultKey, asyncio.Lock] = {}
        self._wanted: dict[ResultKey, list[Delivery]] = {}
        #: Results of the batch that is being fetched, with those who wait for each.
        self._fetching: dict[ResultKey, list[Delivery]] = {}
        self._wake = asyncio.Event()
        #: Attempts whose data is not fetched yet for want of room, and the number of results on their way for others.
        self._queued: deque[Attempt] = deque()
        self._missing = 0
        #: Inputs that have to be moved to the disk: the attempt, its inputs found so far, and the key.
        self._too_many: list[tuple[Attempt, dict[str, Data | Spooled], str]] = []
        #: Number of keys in one request: as many as were answered at once of late.
        self._batch = _BATCH
        self._setback = Setback("fetching results from the control plane")
        #: Tasks that bring large data of attempts to this machine.
        self._spooling: dict[Attempt, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def scratch(self) -> ObjectDirectory:
        """The directory of large data, with a proof for workers."""
        return self._spool.proven

    # ------------------------------------------------------------------ attempts

    def prepare(self, attempts: Sequence[Attempt]) -> None:
        """Get the data of attempts; calls ``prepared`` or ``unprepared`` of the dispatcher for each."""
        self._queued.extend(attempts)
        self.advance()

    def advance(self) -> None:
        """Begin to get data for attempts that waited for room. Call now and then.

        Memory is bounded: no attempt is begun while ``_BATCH`` results are on their way, and while more than half
        of ``HELD_BYTES`` is in hand, only one attempt for each worker is made ready.
        """
        dispatcher = self._dispatcher
        while self._queued and self._missing < _BATCH:
            if dispatcher.held_bytes > HELD_BYTES // 2 and dispatcher.stocked:
                return
            attempt = self._queued.popleft()
            if not attempt.over:
                self._begin(attempt)

    def _begin(self, attempt: Attempt) -> None:
        attempt.inputs = {}
        missing = []
        found: dict[str, Data | Spooled] = {}
        for key in attempt.data_dependencies:
            data = self._known((attempt.session_no, key))
            if data is None:
                missing.append(key)
            else:
                found[key] = data
        if not missing:
            self._complete(attempt, found)
            return
        self._missing += len(missing)
        self._await(attempt, found, set(missing))

    def _known(self, key: ResultKey) -> Data | None:
        """Return a result that was fetched before or produced by a worker of this agent, else None."""
        data = self._cache.get(key)
        return self.produced.get(key) if data is None else data

    def dispose(self, attempt: Attempt) -> None:
        """Release the files of an attempt that is over, and stop bringing its large data here."""
        if (spooling := self._spooling.get(attempt)) is not None:
            spooling.cancel()
        payload = attempt.spooled_payload
        for file in attempt.spooled():
            self._spool.close(file, keep=file is not payload)
        attempt.inputs, attempt.spooled_payload = None, None

    def _await(self, attempt: Attempt, found: dict[str, Data | Spooled], missing: set[str]) -> None:
        inline_bytes = 0

        def arrive(key: str, data: Data | DataUnavailableError) -> None:
            nonlocal inline_bytes
            self._missing -= 1
            if isinstance(data, DataUnavailableError):
                detail = f"dependency {key!r} cannot be read: {data}"
                self._dispatcher.unprepared(attempt, detail, for_good=data.for_good)
                return
            if attempt.over:
                return
            found[key] = data
            missing.discard(key)
            if isinstance(data, bytes):
                inline_bytes += len(data)
                if inline_bytes > KEPT_BYTES and missing:
                    self._too_many.append((attempt, found, key))
            if not missing:
                self._too_many = [entry for entry in self._too_many if entry[0] is not attempt]
                self._complete(attempt, found)

        for key in list(missing):
            self.want((attempt.session_no, key), partial(arrive, key))

    def _complete(self, attempt: Attempt, found: dict[str, Data | Spooled]) -> None:
        """Report an attempt as prepared once its data is found; large data is brought to the disk first."""
        if isinstance(attempt.payload, bytes) and not any(not isinstance(d, bytes) for d in found.values()):
            attempt.inputs = {key: data for key, data in found.items() if isinstance(data, bytes)}
            attempt.large = attempt.size > SENT_AT_ONCE_BYTES
            self._dispatcher.prepared(attempt)
            return
        assert self._tasks is not None
        task = self._tasks.create_task(contained(self._dispatcher, attempt, self._spool_all(attempt, found)))
        self._spooling[attempt] = task
        task.add_done_callback(lambda _: self._spooling.pop(attempt, None))

    async def _spool_all(self, attempt: Attempt, found: dict[str, Data | Spooled]) -> None:
        files: list[Spooled] = []
        inputs: dict[str, Input] = {}
        try:
            if isinstance(attempt.payload, StoredObject):
                files.append(await self._spool.open(attempt.payload))
            for key, data in found.items():
                if isinstance(data, StoredObject):
                    files.append(await self._spool.open(data))
                    inputs[key] = files[-1]
                else:
                    inputs[key] = data
        except BaseException as error:
            for file in files:
                self._spool.close(file, keep=True)
            if not isinstance(error, ObjectGoneError):
                raise
            self._dispatcher.unprepared(attempt, f"its data cannot be read: {error}")
            return
        attempt.large, attempt.inputs = True, inputs
        if isinstance(attempt.payload, StoredObject):
            attempt.spooled_payload = files[0]
        self._dispatcher.prepared(attempt)
        self._dispatcher.pump()

    async def _put_away(self) -> None:
        """Move inline inputs beyond ``KEPT_BYTES`` of an attempt to the disk. Called between two replies."""
        batch, self._too_many = self._too_many, []
        for attempt, found, key in batch:
            data = found[key]
            if attempt.over or not isinstance(data, bytes):
                continue
            try:
                file = await self._spool.keep(data)
            except MachineFaultError as error:
                end_attempt(self._dispatcher, attempt, error)
                continue
            if attempt.inputs is None:  # the attempt ended while its data was written
                self._spool.close(file, keep=False)
            else:
                found[key] = attempt.inputs[key] = file

    # ------------------------------------------------------------------ workers' requests

    async def read(self, session_no: int, kind: DataKind, key: str) -> tuple[Input, Callable[[], None]]:
        """Return a result that a worker asks for, and a function to call when it has been sent.

        Raises:
            DataUnavailableError: if the result is unknown, not completed, or (direct) not on this agent.
            MachineFaultError: if the result is large and the disk does not take it.
        """
        data = await self._look_up((session_no, key), kind)
        if isinstance(data, bytes):
            return data, lambda: None
        try:
            file = await self._spool.open(data)
        except ObjectGoneError as error:
            raise DataUnavailableError(str(error)) from error
        return file, lambda: self._spool.close(file, keep=kind is not DataKind.RESOURCE)

    async def _look_up(self, key: ResultKey, kind: DataKind) -> Data:
        if kind is DataKind.RESOURCE:
            return await self._fetch(key)
        if kind is DataKind.DIRECT:
            data = self._cache.get(key)
            if data is None:
                data = self._common.get(key)
            if data is None:
                data = self.produced.get(key)
            if data is None:
                raise DataUnavailableError(f"result {key[1]!r} is not on this agent; ask for it as resource")
            return data
        lock = self._common_locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                data = self._common.get(key)
                if data is None:
                    data = await self._fetch(key)
                    self._common.put(key, data)
                return data
        finally:
            if not lock.locked():
                self._common_locks.pop(key, None)

    async def _fetch(self, key: ResultKey) -> Data:
        arrived: asyncio.Future[Data | DataUnavailableError] = asyncio.get_running_loop().create_future()
        self.want(key, lambda data: None if arrived.done() else arrived.set_result(data))
        data = await arrived
        if isinstance(data, DataUnavailableError):
            raise data
        return data

    # ------------------------------------------------------------------ fetching

    def want(self, key: ResultKey, deliver: Delivery) -> None:
        """Fetch a result with the next batch, or share the answer that is on its way; ``deliver`` is called with it."""
        if (waiting := self._fetching.get(key)) is not None:
            waiting.append(deliver)
            return
        self._wanted.setdefault(key, []).append(deliver)
        self._wake.set()

    async def run(self) -> None:
        """Fetch wanted results batch by batch. Runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._wanted:
                    keys = list(self._wanted)[:_BATCH]
                    self._fetching = {key: self._wanted.pop(key) for key in keys}
                    await self._fetch_batch(self._fetching)
                    self.advance()
                    self._dispatcher.pump()

    async def _fetch_batch(self, wanted: dict[ResultKey, list[Delivery]]) -> None:
        while wanted:
            keys = list(islice(wanted, self._batch))
            answers = await self._ask(keys)
            for key, data in zip(keys, answers, strict=False):
                if not isinstance(data, DataUnavailableError):
                    self._cache.put(key, data)
                for deliver in wanted.pop(key):
                    deliver(data)
            await self._put_away()
            # The control plane also looks up results that it then has to leave out, so no more are asked for
            # than it answers at once.
            self._batch = len(answers) or max(1, len(keys) // 2)
            if len(answers) == len(keys):
                self._batch = min(2 * self._batch, _BATCH)

    async def _ask(self, keys: Sequence[ResultKey]) -> Sequence[Data | DataUnavailableError]:
        """Ask the control plane for results; waits while it is away.

        Returns:
            Answers for the first keys, at least one; none if a request for several keys was refused.
        """
        request = agent_pb2.FetchResultsRequest()
        for session_no, key in keys:
            request.keys.add(session_no=session_no, key=key)
        while True:
            try:
                reply = await (await self._link.stub()).FetchResults(request)
            except (grpc.RpcError, asyncio.CancelledError) as error:
                reraise_own_cancellation()
                if is_refusal(error):
                    return [] if len(keys) > 1 else [DataUnavailableError(describe(error))]
                fault = describe(error)
            else:
                if reply.fetched:
                    self._setback.over()
                    return [_data(fetched) for fetched in reply.fetched]
                fault = "it answered none of the keys"
            # The request is repeated, because a control plane that is away is no reason to fail the attempts.
            await asyncio.sleep(self._setback.note(UnavailableError(fault)))


def _data(fetched: agent_pb2.FetchResultsReply.Fetched) -> Data | DataUnavailableError:
    if fetched.WhichOneof("what") != "data":
        return DataUnavailableError(fetched.error or "no data", for_good=fetched.for_good)
    data = fetched.data
    if data.WhichOneof("where") == "object":
        return StoredObject(data.object.name, data.object.size, data.object.sha256)
    return data.inline
