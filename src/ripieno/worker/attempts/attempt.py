"""``Attempt``: one attempt on this worker, shared by the handler's thread and the I/O loop.

Neither side waits for the other here. The I/O loop feeds an attempt (``receive``) and stops it
(``withdraw``, ``cancel``, ``break_off``); the handler's thread begins it, asks, sends and
ends it. The subclasses in the lanes define how replies are sent.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count
from threading import Lock
from typing import Any

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.progress import Progress
from ripieno.objects import ObjectFile
from ripieno.wire.chunks import DEFAULT_CHUNK_BYTES
from ripieno.wire.protos.armonik_v2 import worker_service_pb2
from ripieno.worker.attempts.object_place import ObjectPlace
from ripieno.worker.attempts.progress_reports import ProgressReports
from ripieno.worker.attempts.reply_outbox import Outbox
from ripieno.worker.conversation.conversation import Asked, Conversation, DataArrived, Event, TaskReady
from ripieno.worker.conversation.replies import ProcessReply, result_ended
from ripieno.worker.process.forks import is_forked
from ripieno.worker.terms.errors import AttemptOver, TaskCancelled


class Attempt(ABC):
    """One run of a task.

    Attributes:
        conversation: The state of what the agent sent.
        outbox: The queue of replies to the agent.
        cancelled: Whether the agent wants the attempt stopped, or is gone.
        over: Whether the attempt has ended; nothing may be sent any more.
        broken: How the agent broke the protocol while the handler ran; None if it did not.
        interrupt: Called (on the I/O loop) when the attempt is cancelled.
        place: The place in the worker where it runs, from 0.
        open_results: Keys of results that are begun and not ended, by request id.
        open_objects: Files of results that are being written into the object store, by key. A file is
            None as long as it is not known whether its result is large.
    """

    __slots__ = (
        "_fate",
        "_owed",
        "_progress",
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

    place = 0

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.conversation = Conversation()
        self.cancelled = False
        self.over = False
        self.broken: str | None = None
        self.interrupt: Callable[[], object] | None = None
        # Acquired once: by the handler's thread that begins the attempt or by the loop that withdraws it.
        self._fate = Lock()
        # The following are made when first needed: most attempts need none of them.
        self._owed: dict[str, None] | None = None
        self._request_numbers: count[int] | None = None
        self._waits: dict[str, Future[Any]] | None = None
        self._progress: ProgressReports | None = None
        self.open_results: dict[str, str] | None = None
        self.open_objects: dict[str, ObjectFile | None] | None = None

    # ------------------------------------------------------------ how replies travel

    @abstractmethod
    def send(self, replies: Sequence[ProcessReply]) -> None:
        """Send replies that do not end the attempt. Never blocks."""

    @abstractmethod
    def finish(self, replies: Sequence[ProcessReply], failure_value: bytes | None = None) -> None:
        """End the attempt with these replies, of which the last is Output.

        ``failure_value`` is as for ``fail``, where Output is an error.
        """

    @abstractmethod
    def finish_with_result(self, key: str, data: bytes) -> None:
        """End the attempt with one result of one chunk, and Output ok."""

    @abstractmethod
    def fail(self, detail: str, failure_value: bytes | None = None) -> None:
        """End the attempt as failed, without Output.

        Args:
            detail: The reason, for people.
            failure_value: What goes with the failure for programs, at most ``FAILURE_VALUE_LIMIT_BYTES``; None for
                nothing. A lane without a place for it leaves it out.
        """

    @property
    def objects(self) -> ObjectPlace | None:
        """The place where large results may be written instead of being sent; None if there is none."""
        return None

    def send_progress(self, progress: Progress) -> None:  # noqa: B027 - a lane without a place for it ignores it
        """Tell the agent how far the attempt has come. Never blocks."""

    def report(self, progress: Progress) -> None:
        """Tell the agent how far the attempt has come, as often as it may be told. Never blocks."""
        if self._progress is None:
            self._progress = ProgressReports(self.outbox, self.send_progress, lambda: self.over)
        self._progress.report(progress)

    def send_stored(self, key: str, stored: StoredObject) -> None:
        """Tell the agent of a result that is in the object store."""
        raise NotImplementedError("this lane has no place for objects")

    # ------------------------------------------------------------ from the I/O loop

    def receive(self, request: worker_service_pb2.ProcessRequest) -> bool:
        """Take in the agent's next message; return True when the handler may begin.

        Raises:
            ProtocolViolation, OSError: as for ``Conversation.receive``.
        """
        event = self.conversation.receive(request)
        if event is None:
            return False
        if isinstance(event, TaskReady):
            return True
        self._answer(event)
        return False

    def withdraw(self) -> bool:
        """Withdraw the attempt unless it has begun; return True if it never will begin."""
        if not self._fate.acquire(blocking=False):
            return False
        self.over = True
        self.conversation.close()
        return True

    def cancel(self) -> None:
        """Tell the handler to stop, and cancel the futures that it waits for. No-op once the attempt is over."""
        if self.over:
            return
        self.cancelled = True
        for wait in list((self._waits or {}).values()):
            wait.cancel()
        interrupt = self.interrupt
        if interrupt is not None:
            interrupt()

    def break_off(self, detail: str) -> None:
        """End the attempt as failed because the agent broke the protocol; if it has begun, cancel its handler first."""
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
        """Begin the attempt; return False if it was withdrawn."""
        return self._fate.acquire(blocking=False)

    def require_usable(self) -> None:
        """Check that the handler may still use the attempt.

        Raises:
            TaskCancelled: the attempt is cancelled.
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
        """Mark the attempt as over, release its inputs and discard objects that are not finished.

        Whatever threads that the handler has left behind still wait for will not come: their waits are cancelled.
        """
        self.over = True
        if self._waits:
            for wait in list(self._waits.values()):
                wait.cancel()
        # A copy, since a thread that the handler has left behind may be adding objects at this very moment.
        for each in list((self.open_objects or {}).values()):
            if each is not None:
                each.discard()
        if self.conversation.holds_files:
            # On the loop, since it may be adding to the files at this very moment.
            self.outbox.on_loop(self.conversation.close)

    @property
    def chunk_bytes(self) -> int:
        """The longest chunk that may be sent, in bytes."""
        return self.conversation.init.configuration.data_chunk_max_size or DEFAULT_CHUNK_BYTES

    def new_request_id(self) -> str:
        """Return a request id that was not used in this attempt before."""
        if self._request_numbers is None:
            self._request_numbers = count(1)
        return str(next(self._request_numbers))

    def ask(self, request_id: str, asked: Asked) -> Future[Event]:
        """Register a question that is about to be sent; the future brings its answer."""
        answer: Future[Event] = Future()
        self.conversation.ask(request_id, asked)
        return self.wait_for(request_id, answer)

    def wait_for(self, name: str, future: Future[Any]) -> Future[Any]:
        """Have ``future`` cancelled when the attempt is cancelled, and return it; ``name`` is for ``stop_waiting``."""
        if self._waits is None:
            self._waits = {}
        self._waits[name] = future
        if self.cancelled:
            future.cancel()
        return future

    def stop_waiting(self, name: str) -> None:
        """Forget the wait of that name, which is over."""
        if self._waits is not None:
            self._waits.pop(name, None)

    @property
    def owed(self) -> dict[str, None]:
        """The keys of expected outputs that are neither sent nor delegated, in order."""
        if self._owed is None:
            self._owed = dict.fromkeys(self.conversation.init.expected_output_keys)
        return self._owed

    def settle_key(self, key: str) -> None:
        """Note that the result ``key`` is about to be sent or delegated, so that it is owed no more.

        Raises:
            InvalidRequestError: the task does not owe the result (any more).
        """
        if key in self.owed:
            del self.owed[key]
            return
        if key in self.conversation.init.expected_output_keys:
            raise InvalidRequestError("key", f"{key!r} was sent or delegated already; each result is made once")
        expected = ", ".join(repr(name) for name in self.conversation.init.expected_output_keys) or "none"
        raise InvalidRequestError("key", f"{key!r} is not an expected output of this task; expected: {expected}")

    def sole_key(self) -> str | None:
        """Return the key of the only result that is still owed; None if there is none or more than one."""
        keys = self.conversation.init.expected_output_keys if self._owed is None else list(self._owed)
        return keys[0] if len(keys) == 1 else None

    def end_results(self) -> list[ProcessReply]:
        """Return the replies that end all results that are begun and not ended."""
        ends = [reply for request_id in self.open_results or () for reply in result_ended(request_id)]
        self.open_results = None
        return ends
