"""One attempt on this worker: where the handler's thread and the I/O loop meet.

Neither side waits for the other here. The I/O loop feeds it (``receive``) and stops it
(``withdraw``, ``cancel``, ``break_off``); the handler's thread begins it, asks, sends and
ends it. The lanes say how its replies travel.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count
from threading import Lock
from typing import Any

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import InvalidRequestError
from ripieno.objects import ObjectFile
from ripieno.wire.chunks import DEFAULT_CHUNK_BYTES
from ripieno.wire.protos.armonik_v2 import worker_service_pb2
from ripieno.worker.attempts.objects import ObjectPlace
from ripieno.worker.attempts.outbox import Outbox
from ripieno.worker.conversation.conversation import Asked, Conversation, DataArrived, Event, TaskReady
from ripieno.worker.conversation.replies import ProcessReply, result_ended
from ripieno.worker.process.forks import is_forked
from ripieno.worker.terms.errors import AttemptOver, TaskCancelled


class Attempt(ABC):
    """One run of a task.

    Attributes:
        conversation: What the agent sent.
        outbox: Where its replies go.
        cancelled: Whether the agent wants it stopped, or is gone.
        over: Whether it has ended; nothing may be sent any more.
        broken: How the agent broke the protocol in its course, if it did.
        interrupt: Called (on the I/O loop) when it is cancelled.
        open_results: Keys of results that are begun and not ended, by request id.
        open_objects: Files of results that are being written into the object store, by key; None as
            long as nobody knows whether they are large.
    """

    __slots__ = (
        "_fate",
        "_owed",
        "_request_numbers",
        "_waits",
        "broken",
        "cancelled",
        "conversation",
        "interrupt",
        "open_objects",
        "open_results",
        "outbox",
        "over",
    )

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.conversation = Conversation()
        self.cancelled = False
        self.over = False
        self.broken: str | None = None
        self.interrupt: Callable[[], object] | None = None
        # Taken once: by the handler's thread that begins it or by the loop that drops it.
        self._fate = Lock()
        # Made when first needed: most attempts need none of them.
        self._owed: dict[str, None] | None = None
        self._request_numbers: count[int] | None = None
        self._waits: dict[str, Future[Any]] | None = None
        self.open_results: dict[str, str] | None = None
        self.open_objects: dict[str, ObjectFile | None] | None = None

    # ------------------------------------------------------------ how replies travel

    @abstractmethod
    def send(self, replies: Sequence[ProcessReply]) -> None:
        """Send replies that are not the last ones; never blocks."""

    @abstractmethod
    def finish(self, replies: Sequence[ProcessReply]) -> None:
        """End with these replies, Output the last of them."""

    @abstractmethod
    def finish_with_result(self, key: str, data: bytes) -> None:
        """End with one result of one chunk, and ok."""

    @abstractmethod
    def fail(self, detail: str) -> None:
        """End without Output: the attempt failed."""

    @property
    def objects(self) -> ObjectPlace | None:
        """Where large results may be written instead of sent."""
        return None

    def send_stored(self, key: str, stored: StoredObject) -> None:
        """Tell of a result that is in the object store."""
        raise NotImplementedError("this lane has no place for objects")

    # ------------------------------------------------------------ from the I/O loop

    def receive(self, request: worker_service_pb2.ProcessRequest) -> bool:
        """Take in the agent's next message; True when the handler may begin.

        Raises:
            ProtocolViolation, OSError: as Conversation.receive does.
        """
        event = self.conversation.receive(request)
        if event is None:
            return False
        if isinstance(event, TaskReady):
            return True
        self._answer(event)
        return False

    def withdraw(self) -> bool:
        """Drop it, unless it has begun; True if it never will."""
        if not self._fate.acquire(blocking=False):
            return False
        self.over = True
        self.conversation.close()
        return True

    def cancel(self) -> None:
        """Tell the handler to stop, and end whatever it waits for."""
        self.cancelled = True
        for wait in list((self._waits or {}).values()):
            wait.cancel()
        interrupt = self.interrupt
        if interrupt is not None:
            interrupt()

    def break_off(self, detail: str) -> None:
        """The agent broke the protocol: end it as failed."""
        if self.withdraw():
            self.fail(detail)
        else:
            self.broken = detail
            self.cancel()

    def _answer(self, event: Event) -> None:
        assert not isinstance(event, TaskReady)
        wait = self._waits.get(event.request_id) if self._waits else None
        if wait is not None and wait.set_running_or_notify_cancel():
            wait.set_result(event)
        elif isinstance(event, DataArrived):
            event.spool.close()

    # ------------------------------------------------------------ from the handler's thread

    def begin(self) -> bool:
        """Begin it; False if it was withdrawn."""
        return self._fate.acquire(blocking=False)

    def require_usable(self) -> None:
        """Check that it makes sense to go on.

        Raises:
            TaskCancelled: it is cancelled.
            AttemptOver: the handler has returned, or this process was forked by it.
        """
        if is_forked():
            raise AttemptOver(
                f"task {self.conversation.init.task_id!r} belongs to the worker, and this is a process that its handler"
                " forked: hand what it made back to the handler, and send it from there"
            )
        if self.cancelled:
            raise TaskCancelled
        if self.over:
            task_id = self.conversation.init.task_id
            raise AttemptOver(f"task {task_id!r} is over: its handler has returned; use the task only before that")

    def end(self) -> None:
        """It is over: what it was given is let go of, and what it began to write."""
        self.over = True
        # A thread that the handler has left behind may be adding to them at this very moment.
        for each in list((self.open_objects or {}).values()):
            if each is not None:
                each.discard()
        if self.conversation.holds_files:
            # The loop may be adding to them at this very moment.
            self.outbox.on_loop(self.conversation.close)

    @property
    def chunk_bytes(self) -> int:
        """The longest chunk that may be sent."""
        return self.conversation.init.configuration.data_chunk_max_size or DEFAULT_CHUNK_BYTES

    def new_request_id(self) -> str:
        """A request id that was not used in this attempt."""
        if self._request_numbers is None:
            self._request_numbers = count(1)
        return str(next(self._request_numbers))

    def ask(self, request_id: str, asked: Asked) -> Future[Event]:
        """A question goes out; the future brings its answer."""
        answer: Future[Event] = Future()
        self.conversation.ask(request_id, asked)
        return self.wait_for(request_id, answer)

    def wait_for(self, name: str, future: Future[Any]) -> Future[Any]:
        """Have ``future`` cancelled when the attempt is."""
        if self._waits is None:
            self._waits = {}
        self._waits[name] = future
        if self.cancelled:
            future.cancel()
        return future

    def stop_waiting(self, name: str) -> None:
        """The wait of that name is over."""
        if self._waits is not None:
            self._waits.pop(name, None)

    @property
    def owed(self) -> dict[str, None]:
        """Expected outputs that are neither sent nor delegated, in order."""
        if self._owed is None:
            self._owed = dict.fromkeys(self.conversation.init.expected_output_keys)
        return self._owed

    def settle_key(self, key: str) -> None:
        """A result of that key is about to be sent or delegated.

        Raises:
            InvalidRequestError: the task does not owe it (any more).
        """
        if key in self.owed:
            del self.owed[key]
            return
        if key in self.conversation.init.expected_output_keys:
            raise InvalidRequestError("key", f"{key!r} was sent or delegated already; each result is made once")
        expected = ", ".join(repr(name) for name in self.conversation.init.expected_output_keys) or "none"
        raise InvalidRequestError("key", f"{key!r} is not an expected output of this task; expected: {expected}")

    def sole_key(self) -> str | None:
        """The only result that is still owed, or None if there is none or more than one."""
        keys = self.conversation.init.expected_output_keys if self._owed is None else list(self._owed)
        return keys[0] if len(keys) == 1 else None

    def end_results(self) -> list[ProcessReply]:
        """The replies that end all results that are begun and not ended."""
        ends = [reply for request_id in self.open_results or () for reply in result_ended(request_id)]
        self.open_results = None
        return ends
