"""Following results until they are final, over one stream that survives broken connections."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

import grpc
import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.client.terms.errors import from_rpc
from ripieno.domain.errors import LimitError, UnavailableError
from ripieno.wire.outcomes import directory_from_wire
from ripieno.wire.protos.v1 import results_pb2

#: Keys to a message: 1,000 keys of 1,024 bytes are still a message of 1 MiB.
_KEYS_A_MESSAGE = 1_000
#: Most keys without an answer on one stream; further keys are asked for as answers come.
_KEYS_AT_A_TIME = 50_000
#: Seconds for which an idle stream is kept for further keys; the second if the client has more than ``_MANY``.
IDLE_S, BRIEFLY_S = 5.0, 0.05
_MANY = 64


class NotPushedError(Exception):
    """The server does not have ``Results.Follow``: the caller has to wait for each result by itself."""


class Follower:
    """Asks for results of one session and yields each of them once, when it is final.

    Keys may be added at any time until ``close``. When the connection breaks, the keys
    without an answer are asked for again.
    """

    def __init__(self, connection: Connection, session_id: str, *, with_data: bool = True) -> None:
        self._connection = connection
        self._session_id = session_id
        self._with_data = with_data
        self._unanswered: dict[str, None] = {}
        self._unsent: deque[str] = deque()
        #: How many keys the present stream has yet to answer, and the most that they may be.
        self._asked = 0
        self._most_asked = _KEYS_AT_A_TIME
        self._wake = asyncio.Event()
        self._closed = False
        self._went_idle = False

    def add(self, keys: Iterable[str]) -> None:
        """Follow more keys; a key that is followed already is not asked for twice."""
        for key in keys:
            if key not in self._unanswered:
                self._unanswered[key] = None
                self._unsent.append(key)
        self._wake.set()

    def close(self) -> None:
        """Declare that no more keys will be added."""
        self._closed = True
        self._wake.set()

    async def batches(self) -> AsyncGenerator[list[results_pb2.FinishedResult], None]:
        """Yield final results in batches as they come, until every key is answered.

        Ends after ``close``, or when there was nothing to follow for a while.

        Raises:
            NotPushedError: the server does not have ``Results.Follow``; nothing was yielded.
            RipienoError: the session is unknown, or no server answered.
        """
        patience = self._connection.patience("follow results")
        while self._unanswered:
            wake = self._wake = asyncio.Event()
            self._went_idle = False
            call = self._connection.results.Follow(self._requests(wake))
            self._connection.follows += 1
            try:
                async for reply in call:
                    patience.renew()
                    self._asked -= len(reply.finished)
                    if self._unsent:
                        wake.set()
                    if (directory := directory_from_wire(reply.objects)) is not None:
                        await self._connection.objects.offer(directory)
                    # A key that is not in the dictionary was answered before: pop gives `one` back.
                    if batch := [one for one in reply.finished if self._unanswered.pop(one.key, one) is None]:
                        if not self._unanswered:
                            wake.set()  # the stream is idle from here on
                        yield batch
                if self._unanswered and not self._went_idle:
                    await patience.pause(UnavailableError(f"it left {len(self._unanswered)} results unanswered"))
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    self._connection.pushes_results = False
                    raise NotPushedError from error
                failure = from_rpc(error)
                if isinstance(failure, LimitError) and failure.limit == "keys_per_follow" and self._most_asked > 1:
                    self._most_asked //= 2
                elif self._unanswered:
                    await patience.pause(error)
            finally:
                self._wake = asyncio.Event()
                wake.set()
                call.cancel()
                self._connection.follows -= 1

    async def _requests(self, wake: asyncio.Event) -> AsyncIterator[results_pb2.FollowRequest]:
        """Yield the requests of a new stream: all unanswered keys, then added ones, ``_most_asked`` at a time.

        gRPC may go on iterating when the stream is over; then ``wake`` is not the
        follower's any more, and keys are left for the next stream to ask.
        """
        self._unsent = deque(self._unanswered)
        self._asked = 0
        first = True
        while self._wake is wake:
            while first or (self._unsent and self._asked < self._most_asked):
                count = min(len(self._unsent), _KEYS_A_MESSAGE, self._most_asked - self._asked)
                self._asked += count
                yield results_pb2.FollowRequest(
                    session_id=self._session_id if first else "",
                    keys=[self._unsent.popleft() for _ in range(count)],
                    without_data=first and not self._with_data,
                )
                first = False
            if self._closed and not self._unsent:
                return
            wake.clear()
            try:
                brief = not self._unanswered and self._connection.follows > _MANY
                async with asyncio.timeout(BRIEFLY_S if brief else IDLE_S):
                    await wake.wait()
            except TimeoutError:
                if not self._unanswered:
                    self._went_idle = True  # A key that is added from here on needs another stream.
                    return
