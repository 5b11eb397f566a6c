"""``Executor``: a cluster as an executor of ``concurrent.futures``."""

from __future__ import annotations

import concurrent.futures
import secrets
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from ripieno.functions.adapters.calls import Calls
from ripieno.functions.adapters.executor_future import ExecutorFuture
from ripieno.functions.adapters.initializing import Initialized
from ripieno.functions.adapters.library_options import options_of_library
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.connecting import connect
from ripieno.functions.calling.shared import cluster_in_use
from ripieno.functions.terms.calls import FunctionCode, Submitted
from ripieno.functions.terms.decorator import TaskFunction, parts_of
from ripieno.functions.terms.options import CallOptions

T = TypeVar("T")

_NOTHING = CallOptions()


class Executor(concurrent.futures.Executor):
    """A cluster wherever an executor of ``concurrent.futures`` is wanted.

    ::

        with ripieno.Executor() as executor:
            for value in executor.map(simulate, range(10_000), chunksize=100):
                ...

    ``submit``, ``map`` and ``shutdown`` do what those of ``ProcessPoolExecutor`` do. All arguments are the function's:
    a task gets options from ``ripieno.task``. A function that raised is not called again, unless it was decorated with
    other options; one whose worker was lost is, as often as the cluster's ``max_retries`` say. When the program
    ends, it waits for what was submitted.

    Args:
        address: The address of a cluster; it is joined, and left with ``shutdown``.
        cluster: A cluster that was joined, in place of an address; it stays open after ``shutdown``. With neither, the
            cluster of the surrounding ``with ripieno.connect()`` is used, or, without one, ``ripieno.connect()`` joins
            or starts one for this executor.
        max_workers: How many calls run at a time, on a private cluster that is started for this executor.
        initializer: Called in each worker process before its first call of this executor. If it raises, the calls of
            that process raise BrokenExecutor, and so does ``submit`` from then on.
        initargs: The arguments of the initializer.

    Raises:
        RipienoError: as for ``connect``.
        ValueError, TypeError: the arguments do not go together, or are out of range.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cluster: Cluster | None = None,
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, not {max_workers}")
        if sum(given is not None for given in (address, cluster, max_workers)) > 1:
            raise TypeError(
                "give one of address, cluster and max_workers: max_workers is the size of a private cluster, others have"
                " their own"
            )
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer is a function, not {initializer!r}")
        if address is None and max_workers is None and cluster is None:
            cluster = cluster_in_use()
        owns_cluster = cluster is None
        self._cluster = connect(address, slots=max_workers) if cluster is None else cluster
        self._given_workers = max_workers
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._id = secrets.token_hex(8)
        self._said = Submitted(options_of_library(self._cluster))
        self._calls = Calls(self._cluster, owns_cluster=owns_cluster)
        self._abandoned = weakref.finalize(self, self._calls.abandon)
        self._abandoned.atexit = False  # the calls that are left are waited for before that

    @property
    def cluster(self) -> Cluster:
        """The cluster that runs the calls."""
        return self._cluster

    @property
    def max_workers(self) -> int:
        """How many calls run at a time; asked of the cluster unless it was given."""
        return self._given_workers or self._cluster.slots()

    @property
    def _max_workers(self) -> int:
        """What libraries read of the standard library's executors, to know how many calls to keep under way."""
        return max(self.max_workers, 1)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> ExecutorFuture[T]:
        """Have the cluster call ``fn(*args, **kwargs)``, and return the future of its value at once.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenExecutor: its initializer failed.
            TypeError: ``fn`` cannot be called.
            NotPicklableError: the function or an argument cannot be sent.
        """
        with self._calls.entering():
            code, said = self._prepared(fn)
            future = self._cluster.submit_code(code, args, kwargs, said, ExecutorFuture)
            assert isinstance(future, ExecutorFuture)
            self._calls.add(future)
            return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | Literal["auto"] = 1,
    ) -> Iterator[T]:
        """Call a function for each item, or for the items of several iterables together; yield its values in order.

        The iterables are read at once, to the end of the shortest one. When the iterator is left, what does not run
        yet is cancelled.

        Args:
            timeout: Seconds from this call within which each value has to be there.
            chunksize: How many calls share a task; "auto" is as for ``Cluster.map``. Where one of them
                raises, the values of all are lost.

        Raises:
            TimeoutError: from the iterator: a value was not there in time.
            RuntimeError, TypeError, NotPicklableError: as for ``submit``.
        """
        if chunksize != "auto" and chunksize < 1:
            raise ValueError(f"chunksize must be >= 1, not {chunksize}")
        ends_at = None if timeout is None else time.monotonic() + timeout
        with self._calls.entering():
            code, said = self._prepared(fn)
            items = list(zip(*iterables, strict=False))
            futures = self._cluster.map_code(code, items, chunksize, said, ExecutorFuture)
            for future in futures:
                assert isinstance(future, ExecutorFuture)
                self._calls.add(future)
        return _values(self._calls, futures[::-1], ends_at)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; may be repeated.

        Args:
            wait: Whether to wait until all calls have ended. If not, the executor ends when they have, and the
                program does not end before.
            cancel_futures: Whether calls that no worker runs yet are cancelled.

        Raises:
            RipienoError: the cluster could not be told.
        """
        self._calls.refuse(RuntimeError("cannot schedule new futures after shutdown"))
        if cancel_futures:
            self._cluster.cancel_waiting(self._calls.left())
        if wait:
            self._calls.end()
        else:
            self._calls.end_beside()

    def __repr__(self) -> str:
        """Show the cluster."""
        return f"<Executor on {self._cluster!r}>"

    def _prepared(self, function: Callable[..., Any]) -> tuple[FunctionCode, Submitted]:
        if self._initializer is not None and callable(function):
            bare, options = parts_of(function)
            function = TaskFunction(Initialized(self._id, self._initializer, self._initargs, bare), options)
        code = FunctionCode.of(function, self._cluster.session_id)
        if code.options == _NOTHING:
            return code, self._said
        return code, Submitted(code.options.over(self._said.options))


def _values(calls: Calls, futures: list[Any], ends_at: float | None) -> Iterator[Any]:
    """Yield the values of futures, the last of the list first; those that are not asked for are cancelled."""
    try:
        while futures:
            # Taken off the list before it is yielded, so that nothing here keeps a value alive.
            left = None if ends_at is None else ends_at - time.monotonic()
            yield _value(calls, futures.pop(), left)
    finally:
        calls.cancelling.cancel_soon(futures)


def _value(calls: Calls, future: Any, timeout: float | None) -> Any:
    try:
        return future.result(timeout)
    except BaseException:
        calls.cancelling.cancel_soon([future])
        raise
    finally:
        del future
