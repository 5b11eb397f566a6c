"""``Future``: the value of a function that runs, or will run, in the cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import reprlib
import threading
from collections.abc import Generator, Iterable, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ripieno.client import Session, TaskFailure, TaskOutput
from ripieno.functions.showing import html
from ripieno.functions.showing.notebook import show_live
from ripieno.functions.terms.errors import FutureMisuseError
from ripieno.functions.terms.pickling import loads
from ripieno.functions.terms.references import Kind, Reference

T = TypeVar("T")

_NOT_HERE = object()

#: In a thread that completes futures: ``session_id``, whose futures those are.
completing = threading.local()


class Home(Protocol):
    """The cluster, as its futures know it."""

    session: Session

    @property
    def session_id(self) -> str:
        """The id of the session that the tasks belong to."""
        ...

    def flush(self) -> None:
        """Wait until all that was submitted is durable in the cluster, or refused."""
        ...

    def fetch(self, key: str) -> bytes:
        """Return the bytes of a result that is there."""
        ...

    def cancel_futures(self, futures: Sequence[Future[Any]]) -> int:
        """Cancel the tasks of futures; return how many futures were not done."""
        ...

    def cancel_waiting(self, futures: Iterable[Future[Any]]) -> int:
        """Cancel the tasks that no worker runs yet, as far as is known; return how many futures were cancelled."""
        ...


class Delivered:
    """The pickle of a task's result, unpickled once for all futures that share it, when one is asked.

    Args:
        data: The pickle; None for a large one, which is fetched when it is needed.
    """

    __slots__ = ("_cluster", "_data", "_is_loaded", "_key", "_lock", "_value")

    def __init__(self, cluster: Home, key: str, data: bytes | None) -> None:
        self._cluster = cluster
        self._key = key
        self._data = data
        self._lock = threading.Lock()
        self._value: Any = None
        self._is_loaded = False

    @property
    def is_here(self) -> bool:
        """Whether the value needs no call to the cluster."""
        return self._is_loaded or self._data is not None

    def value(self) -> Any:
        """Return the value, fetched first if need be.

        Raises:
            RipienoError: the result could not be fetched.
            Exception: what unpickling raised.
        """
        with self._lock:
            if not self._is_loaded:
                data = self._cluster.fetch(self._key) if self._data is None else self._data
                self._value = loads(data)
                self._is_loaded, self._data = True, None
            return self._value


def require_waitable(futures: Iterable[Future[Any]]) -> None:
    """Make sure that the calling thread is not the one that completes these futures, or that all are done.

    Raises:
        FutureMisuseError: a callback would wait for what comes after it.
    """
    session_id = getattr(completing, "session_id", None)
    if session_id is not None:
        for future in futures:
            if future.session_id == session_id and not future.done():
                raise FutureMisuseError(
                    f"a callback cannot wait for {future!r}: the thread that calls it is the one that completes futures."
                    " Give that future a callback, too, or wait in another thread"
                )


class Future(concurrent.futures.Future[T], Reference, Generic[T]):
    """The value of a function that was submitted. Made by ``Cluster.submit``, ``map`` and ``put``.

    It is a ``concurrent.futures.Future``, so ``as_completed``, ``wait`` and callbacks of the standard library
    work with it, and it can be awaited. As an argument of a further submission, at any depth, it becomes a data
    dependency: its value goes from task to task and never through the caller.

    Attributes:
        key: The key of the task's result, which is the task's id.
        index: The place of the value in the task's result, where several calls share a task; None else.
        name: The function's name.
        is_eager: Whether a large value is fetched as soon as it is there, before the future is done.
    """

    is_eager: ClassVar[bool] = False

    def __init__(self, cluster: Home, key: str, name: str, index: int | None = None) -> None:
        super().__init__()
        self._cluster = cluster
        self.key = key
        self.index = index
        self.kind = Kind.DEPENDENCY
        self.session_id = cluster.session_id
        self.name = name
        #: Taken, and never given back, by the one who ends the future: with a result, a failure or a cancellation.
        self._end = threading.Lock()

    @property
    def task_id(self) -> str:
        """The id of the task that runs the function."""
        return self.key

    def result(self, timeout: float | None = None) -> T:
        """Wait for the value and return it.

        Args:
            timeout: The most seconds to wait; None for no limit.

        Raises:
            TimeoutError: there was no value in time.
            concurrent.futures.CancelledError: the future was cancelled.
            Exception: what the function raised, with the traceback of the worker as its cause.
            TaskFailedError: the task ended without its function having raised anything (a time limit, a worker that
                was lost, a cancellation, an input that failed by such).
            FutureMisuseError: a callback of a future of the same cluster waits, which would be for ever.
        """
        require_waitable([self])
        delivered: Any = super().result(timeout)
        if not isinstance(delivered, Delivered):
            return delivered  # type: ignore[no-any-return]
        value = delivered.value()
        return value if self.index is None else value[self.index]  # type: ignore[no-any-return]

    def cancel(self) -> bool:
        """Cancel the task, whether it runs or not. Return False if it has ended already.

        The other calls that share the task, where ``map`` has put several into one, are cancelled with it.
        """
        return self._cluster.cancel_futures([self]) == 1

    def cancel_here(self) -> bool:
        """Mark the future as cancelled, without a word to the cluster; return False if it is done."""
        if not self._end.acquire(blocking=False):
            return False
        try:
            super().cancel()
        finally:
            self.set_running_or_notify_cancel()  # whatever a callback raised, those who wait for several futures are told
        return True

    def complete(self, delivered: Any) -> None:
        """Complete the future, unless it was cancelled meanwhile."""
        if self._end.acquire(blocking=False):
            self.set_result(delivered)

    def fail(self, error: BaseException) -> None:
        """Fail the future, unless it was cancelled meanwhile."""
        if self._end.acquire(blocking=False):
            self.set_exception(error)

    @property
    def session(self) -> Session:
        """The session that the task belongs to, for everything that is not about functions."""
        return self._cluster.session

    def logs(self, attempt: int | None = None) -> TaskOutput:
        """Return what the latest attempt, or the one with that number, has printed; see ``AsyncSession.output``."""
        self._cluster.flush()
        return self._cluster.session.output(self.key, attempt)

    def failure(self, attempt: int | None = None) -> TaskFailure:
        """Return how the latest attempt that failed, or the one with that number, did; see ``AsyncSession.failure``."""
        self._cluster.flush()
        return self._cluster.session.failure(self.key, attempt)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the value in an event loop, any one; raises as ``result``. Cancelling the wait cancels no task."""
        return self._awaited().__await__()

    async def _awaited(self) -> T:
        if not self.done():
            loop, arrived = asyncio.get_running_loop(), asyncio.Event()

            def wake(_: object) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(arrived.set)

            self.add_done_callback(wake)
            await arrived.wait()
        if not self.cancelled() and self.exception() is None:
            delivered: Any = super().result()
            if isinstance(delivered, Delivered) and not delivered.is_here:
                await asyncio.to_thread(delivered.value)
        return self.result()

    def __repr__(self) -> str:
        """Show the function's name, how far it is, and the task."""
        state = "not done"
        if self.cancelled():
            state = "cancelled"
        if self.done() and not self.cancelled():
            error = self.exception()
            state = "finished" if error is None else f"failed: {type(error).__name__}"
        place = "" if self.index is None else f"[{self.index}]"
        return f"<Future {self.name} {state}, task {self.key}{place}>"

    def _repr_html_(self) -> str:
        """Show the same in a notebook, with the value or the exception."""
        fields = {"task": self.key if self.index is None else f"{self.key}[{self.index}]", "state": self._state.lower()}
        if self.done() and not self.cancelled():
            if (error := self.exception()) is not None:
                fields["state"] = "failed"
                fields["raised"] = html.error_in_words(error)
            elif (value := self._value_here()) is not _NOT_HERE:
                fields["value"] = reprlib.repr(value)
        return html.card(f"Future of {self.name}", fields)

    def _ipython_display_(self) -> None:
        """Show the same in a notebook, drawn anew when the task has ended."""
        show_live(self, lambda future: future.done())

    def _value_here(self) -> Any:
        """Return the value if that takes no call to the cluster, and it has been unpickled already or is small."""
        delivered: Any = super().result()
        if not isinstance(delivered, Delivered):
            return delivered
        return self.result() if delivered.is_here else _NOT_HERE

    def __reduce__(self) -> Any:
        """Refuse to be pickled except as an argument of a submission, where it stands for its value."""
        raise FutureMisuseError(
            f"{self!r} can only be sent as an argument of a function that is submitted to the same cluster; elsewhere"
            " send its result"
        )
