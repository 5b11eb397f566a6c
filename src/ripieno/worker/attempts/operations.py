"""Operations: all that a handler can do with its task, written once for both kinds of handlers (``drivers``)."""

from collections.abc import Sequence
from concurrent.futures import Future

from ripieno.domain.identifiers import check_identifier
from ripieno.domain.options import TaskOptions
from ripieno.objects import ObjectFile
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.drivers import BytesLike, Operation
from ripieno.worker.attempts.object_place import ObjectPlace
from ripieno.worker.attempts.object_result import ObjectResult
from ripieno.worker.conversation.conversation import Asked, DataArrived, DataRefused, SubTasksAnswered
from ripieno.worker.conversation.replies import (
    ProcessReply,
    data_wanted,
    output_error,
    output_ok,
    result_begun,
    result_continued,
    result_ended,
)
from ripieno.worker.conversation.sub_tasks import SubTask, check_sub_tasks, creation_replies
from ripieno.worker.terms.errors import HandlerError, ResultUnavailable, SubTasksRefused


class ResultWriter:
    """Sends one result in chunks of the greatest length, with small pieces joined, never ahead of the I/O.

    If this worker can write to the object store, a large result goes there instead (``ObjectResult``).
    """

    def __init__(self, attempt: Attempt, key: str) -> None:
        attempt.require_usable()
        attempt.settle_key(key)
        self._attempt = attempt
        self._key = key
        self._request_id: str | None = None
        self._chunk_bytes = attempt.chunk_bytes
        self._held = bytearray()
        self._object: ObjectResult | None = None
        #: Set while it is undecided where the result goes: bytes are held as long as they are few.
        self._place = attempt.objects
        if self._place is None:
            self._begin()
        else:
            self._open(None)

    def write(self, piece: BytesLike) -> Operation[None]:
        """Add a piece of any length.

        Raises:
            TypeError: the piece is not bytes.
            OSError: the result goes to the object store, whose disk is full, or fails.
        """
        if not isinstance(piece, BytesLike):
            raise TypeError(f"a result is made of bytes; a piece of type {type(piece).__name__} was given")
        rest = memoryview(piece).cast("B")
        if self._place is not None:
            if len(self._held) + len(rest) <= self._place.larger_than_bytes:
                self._held += rest
                return
            yield from self._decide(self._place)
        if self._object is not None:
            yield from self._object.write(piece)
        else:
            yield from self._send(rest)

    def end(self) -> Operation[None]:
        """Complete the result: send its last bytes and its end, or make its object durable."""
        if self._object is not None:
            yield from self._object.end()
            self._close()
            return
        if self._request_id is None:
            self._begin()
            yield from self._send_held()
        assert self._request_id is not None
        yield from _send_when_room(self._attempt, [*self._flush(), *result_ended(self._request_id)])
        if self._attempt.open_results is not None:
            self._attempt.open_results.pop(self._request_id, None)

    def _decide(self, place: ObjectPlace) -> Operation[None]:
        """Send a result that has proved large into the object store if possible, else to the agent."""
        self._place = None
        if name := (yield from self._object_name(place)) if place.is_writable else "":
            file = place.file(name)
            self._object = ObjectResult(self._attempt, self._key, file)
            self._open(file)
            self._attempt.require_usable()  # an attempt that ends from now on discards the file
            held, self._held = bytes(self._held), bytearray()
            yield from self._object.write(held)
        else:
            self._begin()
            yield from self._send_held()

    def _object_name(self, place: ObjectPlace) -> Operation[str]:
        name = place.name()
        if not isinstance(name, Future):
            return name
        label = self._attempt.new_request_id()
        come: str = yield self._attempt.wait_for(label, name)
        self._attempt.stop_waiting(label)
        return come

    def _open(self, file: ObjectFile | None) -> None:
        if self._attempt.open_objects is None:
            self._attempt.open_objects = {}
        self._attempt.open_objects[self._key] = file

    def _close(self) -> None:
        if self._attempt.open_objects is not None:
            self._attempt.open_objects.pop(self._key, None)

    def _begin(self) -> None:
        self._request_id = self._attempt.new_request_id()
        if self._attempt.open_results is None:
            self._attempt.open_results = {}
        self._attempt.open_results[self._request_id] = self._key
        self._close()
        self._attempt.send([result_begun(self._request_id, self._key)])

    def _send_held(self) -> Operation[None]:
        held, self._held = self._held, bytearray()
        yield from self._send(memoryview(held))

    def _send(self, rest: memoryview) -> Operation[None]:
        while rest:
            taken = rest[: self._chunk_bytes - len(self._held)]
            self._held += taken
            rest = rest[len(taken) :]
            if len(self._held) == self._chunk_bytes:
                yield from _send_when_room(self._attempt, self._flush())

    def _flush(self) -> list[ProcessReply]:
        if not self._held:
            return []
        assert self._request_id is not None
        chunk = bytes(self._held)
        self._held.clear()
        return [result_continued(self._request_id, chunk)]


def send_result(attempt: Attempt, key: str, pieces: Sequence[BytesLike]) -> Operation[None]:
    """Send one result whose pieces are all there already."""
    writer = ResultWriter(attempt, key)
    for piece in pieces:
        yield from writer.write(piece)
    yield from writer.end()


def submit(attempt: Attempt, sub_tasks: Sequence[SubTask], options: TaskOptions | None) -> Operation[list[SubTask]]:
    """Create sub-tasks, all of them or none.

    Raises:
        InvalidRequestError: the batch breaks a rule; nothing was sent.
        SubTasksRefused: the cluster refused the batch.
    """
    attempt.require_usable()
    check_sub_tasks(sub_tasks, options)
    request_id = attempt.new_request_id()
    replies = creation_replies(request_id, sub_tasks, options, attempt.chunk_bytes)
    delegated = _delegate(attempt, sub_tasks)
    waiting = attempt.ask(request_id, Asked.CREATE_TASK)
    for reply in replies:
        yield from _send_when_room(attempt, [reply])
    answer: SubTasksAnswered = yield waiting
    attempt.stop_waiting(request_id)
    if answer.refused:
        attempt.owed.update(dict.fromkeys(delegated))
        raise SubTasksRefused(answer.refused_ids)
    return list(sub_tasks)


def fetch(attempt: Attempt, asked: Asked, key: str) -> Operation[bytes]:
    """Get the bytes of a result of the same session.

    Raises:
        InvalidRequestError: ``key`` cannot be a result's key; nothing was sent.
        ResultUnavailable: the agent refused the result, for the reason that the error gives.
    """
    attempt.require_usable()
    check_identifier("key", key)
    request_id = attempt.new_request_id()
    waiting = attempt.ask(request_id, asked)
    attempt.send([data_wanted(request_id, asked, key)])
    answer: DataArrived | DataRefused = yield waiting
    attempt.stop_waiting(request_id)
    if isinstance(answer, DataRefused):
        raise ResultUnavailable(key, answer.reason)
    data = answer.spool.read()
    answer.spool.close()
    return data


def complete(attempt: Attempt, value: object) -> Operation[None]:
    """End an attempt whose handler returned ``value``: send the value if it is bytes, then Output ok.

    Raises:
        TaskCancelled: the attempt is cancelled; the value counts no more.
        TypeError: the value is neither bytes nor None.
        HandlerError: the value is bytes but not exactly one result is owed, or a result is unfinished.
    """
    attempt.require_usable()
    if isinstance(value, BytesLike):
        key = attempt.sole_key()
        if key is None:
            owed = ", ".join(repr(name) for name in attempt.owed) or "none"
            raise HandlerError(
                f"the handler returned bytes, which are the one result that is still owed, but owed are: {owed}."
                " Send each result with task.send_result(key, data) and return None"
            )
        yield from send_result(attempt, key, [value])
    elif value is not None:
        raise TypeError(
            f"the handler returned {type(value).__name__}; return bytes (the task's single result), or send results"
            " with task.send_result(key, data) and return None"
        )
    if attempt.open_results or attempt.open_objects:
        unfinished = [*(attempt.open_results or {}).values(), *(attempt.open_objects or ())]
        keys = ", ".join(map(repr, unfinished))
        raise HandlerError(f"the handler returned before these results were sent whole: {keys}")
    attempt.finish([output_ok()])


def fail_for_good(attempt: Attempt, details: str, value: bytes | None) -> None:
    """End an attempt whose handler raised TaskError: send an Output error, which fails the task for good.

    ``value`` is what goes with the failure for programs; None for nothing.
    """
    attempt.finish([*attempt.end_results(), output_error(details)], value)


def _delegate(attempt: Attempt, sub_tasks: Sequence[SubTask]) -> list[str]:
    """Remove the parent's keys among the sub-tasks' expected outputs from those that it owes, and return them."""
    ours = set(attempt.conversation.init.expected_output_keys)
    delegated: list[str] = []
    try:
        for task in sub_tasks:
            for key in task.expected_output_keys:
                if key in ours:
                    attempt.settle_key(key)
                    delegated.append(key)
    except BaseException:
        attempt.owed.update(dict.fromkeys(delegated))
        raise
    return delegated


def _send_when_room(attempt: Attempt, replies: Sequence[ProcessReply]) -> Operation[None]:
    """Send replies once less than ``OUTBOX_LIMIT_BYTES`` of earlier ones wait to be written."""
    while True:
        attempt.require_usable()
        room = attempt.outbox.room()
        if room is None:
            break
        name = attempt.new_request_id()
        yield attempt.wait_for(name, room)
        attempt.stop_waiting(name)
    attempt.send(replies)
