"""``RipienoBackend``: a cluster as a parallel backend of joblib."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend, parallel_config

from ripieno.functions.adapters.executor_future import ExecutorFuture
from ripieno.functions.adapters.large_values import LargeValues
from ripieno.functions.adapters.library_options import options_of_library
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.shared import default_cluster
from ripieno.functions.running.context import is_in_task
from ripieno.functions.terms.calls import FunctionCode, Submitted
from ripieno.functions.terms.options import CallOptions

#: A call as joblib describes it: function, positional arguments, keyword arguments.
Item = tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]


class RipienoBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the calls of ``joblib.Parallel`` as tasks, one task for each of joblib's batches.

    Large arguments are stored in the cluster once for each call of ``Parallel``. What a call raises, ``Parallel``
    raises, and it is not called again; one whose worker was lost is. What is still under way when ``Parallel`` ends is
    cancelled, whether it runs or not.

    Args:
        cluster: Where they run; None takes the one at ``address``, or without an address ``ripieno.default_cluster()``.
        address: The address of a cluster, which is joined once and kept until the program ends.
        params: What joblib itself gives its backends.
    """

    supports_retrieve_callback = True
    supports_sharedmem = False
    default_n_jobs = -1

    def __init__(self, cluster: Cluster | None = None, address: str | None = None, **params: Any) -> None:
        if cluster is not None and address is not None:
            raise TypeError("give a cluster or an address, not both")
        super().__init__(**params)
        self._given = cluster
        self._address = address
        self._lock = threading.Lock()
        self._left: set[ExecutorFuture[Any]] = set()
        self._values: LargeValues | None = None
        self._code: FunctionCode | None = None
        self._said = Submitted(CallOptions())

    @property
    def cluster(self) -> Cluster:
        """The cluster that runs the calls."""
        return default_cluster(self._address) if self._given is None else self._given

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls run at a time: of -1, as many as the cluster has slots; of -2, one fewer, and so on.

        For a negative number it is 2 at least, as joblib would run a single one in this process.

        Raises:
            ValueError: ``n_jobs`` is 0.
            RipienoError: no server answered.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        return n_jobs if n_jobs > 0 else max(self.cluster.slots() + 1 + n_jobs, 2)

    def start_call(self) -> None:
        """Prepare for a call of ``Parallel``."""
        cluster = self.cluster
        self._said = Submitted(options_of_library(cluster))
        self._code = FunctionCode.of(_call_all, cluster.session_id)
        self._values = LargeValues(cluster)

    def stop_call(self) -> None:
        """Take what the call of ``Parallel`` has stored out of the cluster."""
        self._cancel()
        if self._values is not None:
            self._values.delete()
            self._values = None

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> ExecutorFuture[Any]:
        """Submit a batch, and have ``callback`` called with its future."""
        assert self._values is not None and self._code is not None, "a call of Parallel has begun"
        items = [self._values.replaced(item) for item in func.items]
        future = self._values.cluster.submit_code(self._code, (items,), {}, self._said, ExecutorFuture)
        assert isinstance(future, ExecutorFuture)
        with self._lock:
            self._left.add(future)
        future.add_done_callback(self._done)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: ExecutorFuture[Any]) -> Any:
        """Return what the calls of a batch returned, or raise what one of them raised."""
        return out.result()

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Return the backend of ``Parallel`` within a call: one after the other, as the call has one slot."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is under way; the backend can be used again."""
        self._cancel()

    def terminate(self) -> None:
        """Cancel what is under way."""
        self._cancel()

    def _done(self, future: Any) -> None:
        with self._lock:
            self._left.discard(future)

    def _cancel(self) -> None:
        with self._lock:
            left = list(self._left)
        if left:
            self.cluster.cancel_futures(left)

    def __reduce__(self) -> Any:
        """Pickle as what runs one call after the other: a backend in a task has no cluster of its own."""
        return _sequential, (self.nesting_level,)


def backend(
    cluster: Cluster | None = None, address: str | None = None, **params: Any
) -> RipienoBackend | SequentialBackend:
    """Return the backend that joblib is to use where "ripieno" is named; in a task, one that stays in its slot."""
    if is_in_task():
        return _sequential(params.get("nesting_level"))
    return RipienoBackend(cluster, address, **params)


def _sequential(nesting_level: int | None) -> SequentialBackend:
    return SequentialBackend(nesting_level=(nesting_level or 0) + 1)


def _call_all(items: Sequence[Item]) -> list[Any]:
    """Call what a batch holds, in a worker."""
    with parallel_config(backend=_sequential(0)):
        return [function(*args, **kwargs) for function, args, kwargs in items]
