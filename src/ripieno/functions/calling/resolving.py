"""``Resolver``: follows the results of submitted tasks, and delivers them to their futures."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from ripieno.client import Result, Session, TaskFailedError
from ripieno.client.reading.following import Follower, NotPushedError
from ripieno.client.reading.results import final_result
from ripieno.functions.calling.future import Delivered, Future, completing

#: How many failures are asked about at a time.
_ASKED_AT_A_TIME = 16
#: How many large results are fetched at a time for futures that want them at once.
_FETCHED_AT_A_TIME = 4

Delivery = Callable[[], None]


class Resolver:
    """Delivers results as they become final.

    The client's loop follows results; futures are completed on a thread of its own, so that a callback of a
    caller, or the unpickling of what a callback asks for, keeps no other call waiting.

    Args:
        session: The session that the tasks belong to.
        delivered_of: Wraps the data of a result for the futures that share it.
        failure_of: Returns the exception that a failed task's futures raise.

    Attributes:
        ended: How many tasks have ended, those that failed among them.
        failed: How many have failed, for whatever reason.
    """

    def __init__(
        self,
        session: Session,
        delivered_of: Callable[[str, bytes | None], Delivered],
        failure_of: Callable[[TaskFailedError], Awaitable[BaseException]],
    ) -> None:
        self._session = session
        self._delivered_of = delivered_of
        self._failure_of = failure_of
        self._waiting: dict[str, list[Future[Any]]] = {}
        #: Futures whose results are final, while their values are fetched or their failures asked about.
        self._asked: dict[str, Sequence[Future[Any]]] = {}
        self._follower: Follower | None = None
        self._ready: queue.SimpleQueue[Sequence[Delivery] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self._ending = threading.Lock()
        self.ended = 0
        self.failed = 0
        #: Results that were asked for, and are not delivered yet.
        self._undelivered = 0
        #: Made with each follower, since they belong to a loop: a fork ends the client's, and another one begins.
        self._places = asyncio.Semaphore(_ASKED_AT_A_TIME)
        self._fetches = asyncio.Semaphore(_FETCHED_AT_A_TIME)

    @property
    def pending(self) -> int:
        """How many tasks have not ended."""
        return self._undelivered

    def follow(self, futures: Iterable[Future[Any]]) -> None:
        """Deliver to these futures when their results are final. Call this on the client's loop."""
        new = []
        for future in futures:
            known = self._waiting.get(future.key)
            if known is None:
                self._waiting[future.key] = [future]
                new.append(future.key)
            else:
                known.append(future)
        if self._is_over:
            self._fail_left()
            return
        if not new:
            return
        self._undelivered += len(new)
        self._session.bridge.hold(self)
        if self._follower is None:
            # The stream is kept for a while when all is delivered: the next task is there soon, as a rule.
            self._follower = self._session.target.follower()
            self._places = asyncio.Semaphore(_ASKED_AT_A_TIME)
            self._fetches = asyncio.Semaphore(_FETCHED_AT_A_TIME)
            self._session.target.start(self._resolve(self._follower))
        self._follower.add(new)

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Have functions called on the thread that completes futures, in this order. Any thread may call this."""
        with self._ending:
            if not self._is_over:
                if self._thread is None or not self._thread.is_alive():  # a forked child lacks its parent's
                    self._thread = threading.Thread(target=self._hand_out, name="ripieno-results", daemon=True)
                    self._thread.start()
                self._ready.put(deliveries)
                return
        self._call(deliveries)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on the thread that completes futures."""
        return threading.current_thread() is self._thread

    def flush(self) -> None:
        """Wait until what was there before has been delivered; in a callback, return at once."""
        if self._thread is not None and self._thread.is_alive() and not self.is_current:
            delivered = threading.Event()
            self.deliver([delivered.set])
            delivered.wait()

    def close(self) -> None:
        """End the thread once it has delivered what there is; futures without a result fail.

        Call this after the client is closed: nothing is followed then any more.
        """
        self._fail_left()
        with self._ending:
            self._is_over = True
            self._ready.put(None)
        if self._thread is not None and not self.is_current:
            self._thread.join()

    def _fail_left(self) -> None:
        left = [each for futures in (*self._waiting.values(), *self._asked.values()) for each in futures]
        self._waiting.clear()
        self._asked.clear()
        error = RuntimeError("the cluster was closed before the result was there; the task goes on")
        self.deliver([_failing(future, error) for future in left])

    async def _resolve(self, follower: Follower) -> None:
        # No task group around this: its exceptions hold one another, and with them a call of gRPC that has to be gone
        # before the process forks.
        try:
            async for batch in follower.batches():
                self._take([final_result(one, None) for one in batch])
        except NotPushedError:
            await self._ask_one_by_one()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the futures' to raise
            self._fail_all(error)
        finally:
            self._follower = None

    async def _ask_one_by_one(self) -> None:
        """Wait for results at a server that does not push them."""
        while self._waiting:
            known = list(self._waiting)
            async for result in self._session.target.results(known):
                self._take([result])

    def _settle(self, results: int, deliveries: Sequence[Delivery]) -> None:
        self.ended += results
        self._undelivered -= results
        if not self._undelivered:
            self._session.bridge.release(self)  # before somebody hears of the last result, and forks
        if deliveries:
            self.deliver(deliveries)

    def _take(self, results: Sequence[Result[Any]]) -> None:
        deliveries: list[Delivery] = []
        settled = 0
        for result in results:
            futures = self._waiting.pop(result.key, ())
            if isinstance(result.error, TaskFailedError):
                self._asked[result.key] = futures
                self._session.target.start(self._explain(result.key, result.error))
                continue
            if result.error is None and not result.has_data and any(future.is_eager for future in futures):
                self._asked[result.key] = futures
                self._session.target.start(self._fetch(result.key))
                continue
            settled += 1
            if result.error is not None:
                deliveries += [_failing(future, result.error) for future in futures]
            else:
                delivered = self._delivered_of(result.key, result.data if result.has_data else None)
                deliveries += [_completing(future, delivered) for future in futures]
        self._settle(settled, deliveries)

    async def _explain(self, key: str, error: TaskFailedError) -> None:
        async with self._places:
            try:
                told = await self._failure_of(error)
            except Exception as unknown:  # noqa: BLE001 - the future fails all the same, with what is known
                error.add_note(f"what it raised could not be read: {unknown}")
                told = error
        self.failed += 1
        self._settle(1, [_failing(future, told) for future in self._asked.pop(key, ())])

    async def _fetch(self, key: str) -> None:
        """Fetch a large result, then complete its futures."""
        async with self._fetches:
            try:
                delivered = self._delivered_of(key, await self._session.target.result(key))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the futures' to raise
                deliveries = [_failing(future, error) for future in self._asked.pop(key, ())]
            else:
                deliveries = [_completing(future, delivered) for future in self._asked.pop(key, ())]
        self._settle(1, deliveries)

    def _fail_all(self, error: BaseException) -> None:
        futures = [future for waiting in self._waiting.values() for future in waiting]
        keys = len(self._waiting)
        self._waiting.clear()
        self.failed += keys
        self._settle(keys, [_failing(future, error) for future in futures])

    def _hand_out(self) -> None:
        completing.session_id = self._session.id
        while self._hand_out_next():
            pass

    def _hand_out_next(self) -> bool:
        """Wait for deliveries and make them. A call of its own, so that no future is kept alive while nothing comes."""
        deliveries = self._ready.get()
        if deliveries is None:
            return False
        self._call(deliveries)
        return True

    def _call(self, deliveries: Sequence[Delivery]) -> None:
        for deliver in deliveries:
            try:
                deliver()
            except BaseException:  # noqa: BLE001 - a callback's SystemExit, which is not to keep others from their results
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def _completing(future: Future[Any], delivered: Delivered) -> Delivery:
    return lambda: future.complete(delivered)


def _failing(future: Future[Any], error: BaseException) -> Delivery:
    return lambda: future.fail(error)
