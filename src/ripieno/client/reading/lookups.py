"""``Lookups``: waiting for single results, for many callers that share one stream of a session."""

import asyncio
from collections.abc import Iterable

from ripieno.client.connection.background import Background
from ripieno.client.connection.connection import Connection
from ripieno.client.reading.following import Follower, NotPushedError
from ripieno.client.reading.waiting import wait_for_one
from ripieno.domain.errors import RipienoError
from ripieno.wire.protos.v1 import results_pb2


class Lookups:
    """Waits for single results of a session by their keys.

    Keys that are asked for while a message is on its way are sent together in the next,
    and so are the answers: a thousand callers cost little more than one.
    """

    def __init__(self, connection: Connection, session_id: str, background: Background) -> None:
        self._connection = connection
        self._session_id = session_id
        self._background = background
        self._follower: Follower | None = None
        self._wanted: dict[str, asyncio.Future[results_pb2.FinishedResult]] = {}

    async def get(self, key: str) -> results_pb2.FinishedResult:
        """Wait until a result is final and return it. The server may leave its data out, as it does if that is large.

        Raises:
            RipienoError: the session is unknown, or no server answered.
        """
        if self._connection.pushes_results:
            try:
                # The future is shielded: others may wait for the same key when this caller gives up.
                return await asyncio.shield(self._want(key))
            except NotPushedError:
                pass  # This call has just found out; the call below works with every server.
        return await wait_for_one(self._connection, self._session_id, key)

    def _want(self, key: str) -> asyncio.Future[results_pb2.FinishedResult]:
        future = self._wanted.get(key)
        if future is None:
            follower = self._follower or self._begin()
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
            follower.add([key])
        return future

    def _begin(self) -> Follower:
        follower = Follower(self._connection, self._session_id)
        handing_out = self._background.start(self._hand_out(follower))
        # The client may be closed before the task has begun: then nothing of ``_hand_out`` ever runs.
        handing_out.add_done_callback(lambda _: self._over(follower, _closed()))
        self._follower = follower
        return follower

    async def _hand_out(self, follower: Follower) -> None:
        failure: Exception = _closed()
        try:
            async for batch in follower.batches():
                for one in batch:
                    self._wanted.pop(one.key).set_result(one)
        except (RipienoError, NotPushedError) as error:
            failure = error
        finally:
            self._over(follower, failure)

    def _over(self, follower: Follower, failure: Exception) -> None:
        """Drop a follower that hands out nothing more, and fail the lookups that still wait for it."""
        if self._follower is follower:
            self._follower = None
            _fail(self._wanted.values(), failure)
            self._wanted.clear()


def _closed() -> Exception:
    return RuntimeError("the client was closed")


def _fail(futures: Iterable[asyncio.Future[results_pb2.FinishedResult]], failure: Exception) -> None:
    for future in futures:
        future.set_exception(failure)
        future.exception()  # Callers may have given up: asyncio would report that nobody looked at it.
