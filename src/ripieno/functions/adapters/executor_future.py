"""``ExecutorFuture``: a future that keeps the rules of the standard library's executors."""

from __future__ import annotations

from typing import Any, TypeVar

from ripieno.client import TaskStatus
from ripieno.functions.adapters.cancelling import Cancelling
from ripieno.functions.calling.future import Future
from ripieno.functions.calling.loops import in_event_loop

T = TypeVar("T")


class ExecutorFuture(Future[T]):
    """The value of a call that was submitted to an ``Executor``. It differs from ``ripieno.Future`` in three points.

    * ``cancel`` does not stop a call that runs, and returns False.
    * ``running`` asks the cluster.
    * The value, however large, is here before the future is done: ``result`` does not wait for the network then. A
      value that cannot be unpickled here is the future's exception.

    Attributes:
        cancelling: Cancels for callers that must not wait; None until the executor has set it.
    """

    is_eager = True
    cancelling: Cancelling | None = None

    def cancel(self) -> bool:
        """Cancel the call unless a worker runs it; return whether it is cancelled.

        The cluster is asked. It knows of a call that runs a tenth of a second after it began: one that began since
        is cancelled while it runs. In a thread with a running event loop nothing is waited for: this returns
        False, and the future is cancelled a moment later, if the call does not run.
        """
        if self.done():
            return self.cancelled()
        if self.cancelling is not None and in_event_loop():
            self.cancelling.cancel_soon([self])
            return False
        self._cluster.cancel_waiting([self])
        return self.cancelled()

    def running(self) -> bool:
        """Ask the cluster whether a worker runs the call; it knows a tenth of a second after the call began.

        Raises:
            RipienoError: no server answered.
        """
        if self.done():
            return False
        return self._cluster.session.status(self.key).get(self.key) is TaskStatus.PROCESSING

    def complete(self, delivered: Any) -> None:
        """Unpickle the value, and complete the future with it, unless it was cancelled meanwhile."""
        if self.done():
            return
        try:
            value = delivered.value()
            if self.index is not None:
                value = value[self.index]
        except BaseException as error:  # noqa: BLE001 - whatever unpickling raises, it is the future's to raise
            self.fail(error)
            return
        if self._end.acquire(blocking=False):
            self.set_result(value)
