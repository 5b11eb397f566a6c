"""The grammar of streamed submissions, without I/O.

``CreateLargeTasks`` of a client and ``create_large_task`` of a worker share this grammar::

    init_request (header data* data_complete)* last_task

          init_request          header              last_task
    START ------------> BETWEEN ------> IN_TASK   BETWEEN ---> DONE
                           ^               | data: stays
                           '---------------'
                             data_complete

A client may leave ``last_task`` out and half-close instead (``end``); there must be at
least one task. A breach raises InvalidRequestError and the whole submission is void.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from enum import Enum, auto

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.submission import check_dependencies
from ripieno.wire.protos.armonik_v2 import objects_pb2


class _State(Enum):
    START = auto()
    BETWEEN = auto()
    IN_TASK = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class TaskOpened:
    """Event: the header of a task arrived; chunks of its payload follow."""

    id: str
    expected_output_keys: tuple[str, ...]
    data_dependencies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PayloadContinued:
    """Event: one chunk of the open task's payload arrived; it may be empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TaskClosed:
    """Event: the open task's payload is complete."""


@dataclass(frozen=True, slots=True)
class SubmissionFinished:
    """Event: ``last_task`` arrived, so the submission is complete and can be answered."""


Event = TaskOpened | PayloadContinued | TaskClosed | SubmissionFinished


@dataclass(slots=True)
class LargeTasksReader:
    """Checks one streamed submission, message by message, and turns its messages into events.

    Each method but ``task_ids`` raises InvalidRequestError if the message may not come next or breaks a rule.

    Attributes:
        chunk_limit_bytes: Longest payload chunk that is accepted, in bytes.
    """

    chunk_limit_bytes: int
    _state: _State = _State.START
    _ids: set[str] = field(default_factory=set)
    _keys: set[str] = field(default_factory=set)

    @property
    def task_ids(self) -> Set[str]:
        """The ids of the tasks seen so far."""
        return self._ids

    def init_request(self) -> None:
        """Take ``init_request``, which must be the first message."""
        if self._state is not _State.START:
            raise InvalidRequestError("init_request", "stands twice; it is the first message and only that")
        self._state = _State.BETWEEN

    def init_task(self, message: objects_pb2.InitTaskRequest) -> TaskOpened | SubmissionFinished:
        """Take a task's header, or ``last_task``, which ends the submission."""
        kind = message.WhichOneof("type")
        self._require(_State.BETWEEN, f"init_task.{kind or 'type'}")
        if kind == "header":
            opened = self._open(message.header)
            self._state = _State.IN_TASK
            return opened
        if kind == "last_task":
            if not self._ids:
                raise InvalidRequestError("init_task.last_task", "ends a submission without a task")
            self._state = _State.DONE
            return SubmissionFinished()
        raise InvalidRequestError("init_task.type", "is not set; send header or last_task")

    def task_payload(self, message: objects_pb2.DataChunk) -> PayloadContinued | TaskClosed:
        """Take a chunk of the open task's payload, or the payload's end."""
        kind = message.WhichOneof("type")
        self._require(_State.IN_TASK, f"task_payload.{kind or 'type'}")
        if kind == "data":
            if len(message.data) > self.chunk_limit_bytes:
                raise InvalidRequestError(
                    "task_payload.data",
                    f"a chunk of {len(message.data)} bytes is longer than data_chunk_max_size"
                    f" ({self.chunk_limit_bytes}); cut it",
                )
            return PayloadContinued(message.data)
        if kind == "data_complete":
            self._state = _State.BETWEEN
            return TaskClosed()
        raise InvalidRequestError("task_payload.type", "is not set; send data or data_complete")

    def end(self) -> None:
        """End the submission because the stream was half-closed without ``last_task``, as clients may."""
        if self._state is _State.START:
            raise InvalidRequestError("init_request", "is missing: the stream ended before its first message")
        if self._state is _State.IN_TASK:
            raise InvalidRequestError("task_payload", "the stream ended inside a task; send data_complete first")
        if not self._ids:
            raise InvalidRequestError("init_task", "the stream ended without a task")
        self._state = _State.DONE

    def _require(self, state: _State, got: str) -> None:
        if self._state is not state:
            story = {
                _State.START: "before init_request, which must be the first message",
                _State.BETWEEN: "outside a task; send a header first",
                _State.IN_TASK: "inside a task; send data_complete first",
                _State.DONE: "after last_task",
            }[self._state]
            raise InvalidRequestError(got, f"arrived {story}")

    def _open(self, header: objects_pb2.TaskRequestHeader) -> TaskOpened:
        check_identifier("init_task.header.id", header.id)
        if header.id in self._ids:
            raise InvalidRequestError("init_task.header.id", f"{header.id!r} stands twice in this request")
        if not header.expected_output_keys:
            raise InvalidRequestError(
                "init_task.header.expected_output_keys", f"is empty for task {header.id!r}; name at least one result"
            )
        for key in header.expected_output_keys:
            check_identifier("init_task.header.expected_output_keys", key)
            if key in self._keys:
                raise InvalidRequestError(
                    "init_task.header.expected_output_keys", f"{key!r} stands twice in this request"
                )
            self._keys.add(key)
        if header.data_dependencies:
            check_dependencies(
                "init_task.header.data_dependencies", header.data_dependencies, header.expected_output_keys
            )
        self._ids.add(header.id)
        return TaskOpened(header.id, tuple(header.expected_output_keys), tuple(header.data_dependencies))
