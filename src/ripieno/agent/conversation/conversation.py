"""The agent's end of ``Worker.Process`` after the opening, as a state machine: replies in, effects out, no I/O.

Each ``request_id`` carries one thing at a time::

    (free) -- result.init.key --> RESULT --- data* --- data_complete --> (results)
    (results) -- init.key --> RESULT                 (results) -- init.last_result --> (free)
    (free) -- create_large_task.init_request --> LARGE SUBMISSION -- ... last_task --> (free)
    (free) -- resource | common_data | direct_data --> DATA REQUEST -- answered --> (free)
    (free) -- create_small_task --> answered at once

A reply that breaks the order, names a foreign or a repeated key, or is empty is a
protocol violation: the conversation ends as ``Failed`` with a detail that names it. Wrong
*names* in a batch of sub-tasks are no violation: the batch is refused and the
conversation goes on. The rules are in docs/protocol.md, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from ripieno.agent.conversation.effects import (
    Answer,
    DataKind,
    DataRequested,
    Effect,
    OutputReceived,
    data_error,
)
from ripieno.agent.conversation.gathering import Gatherer, Gathering, Limits, put_payload
from ripieno.agent.conversation.large_sub_tasks import LargeSubmission
from ripieno.agent.conversation.sub_tasks import Asked, Family, reply_accepted, reply_refused
from ripieno.agent.conversation.violations import TooMuchError, ViolationError, too_long
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.domain.outcomes import Completed, Failed, Failure
from ripieno.domain.submission import NewTask
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2

ProcessReply = worker_service_pb2.ProcessReply

_NOTHING: tuple[Effect, ...] = ()
#: Number of replies that make up the commonest conversation: one small result in one chunk, then ok.
_SHORT_STORY = 5
#: Above this many expected outputs a key is searched in a set instead of the list.
_FEW_KEYS = 4
#: Longest request id that is cached beyond its attempt (see ``_short_end``).
_LONGEST_KNOWN_ID = 256
#: Most data requests and large submissions of one attempt that may be under way at once, because an answer to a
#: worker that does not read takes 4 KB of the agent's memory. And most characters of all request ids in use.
MOST_REQUESTS = 20_000
MOST_ID_CHARACTERS = 16 * 1024 * 1024


class _Results:
    """State of a request id that carries results one after the other, while none is open."""


class _DataRequest:
    """State of a request id whose data request is being answered."""


_RESULTS = _Results()
_DATA_REQUEST = _DataRequest()


class _OpenResult(Gathering):
    """State of a request id under which chunks of a result arrive."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class Conversation:
    """The state of one attempt's exchange with its worker.

    A lane calls ``receive`` with each reply in order, and ``stored``, ``data_answered`` and ``data_delivered``
    are called as effects are carried out. The last effect is ``Completed`` or ``Failed``; after it, further
    replies have no effect on the outcome.
    """

    __slots__ = (
        "_expected",
        "_id_characters",
        "_more",
        "_over",
        "_requests",
        "_results",
        "_said_ok",
        "_streams",
        "_task_id",
        "limits",
    )

    def __init__(self, task_id: str, expected_output_keys: Sequence[str], limits: Limits) -> None:
        self.limits = limits
        few = len(expected_output_keys) <= _FEW_KEYS
        self._expected = expected_output_keys if few else frozenset(expected_output_keys)
        self._task_id = task_id
        #: Made on first use, because the commonest conversation needs neither.
        self._more: tuple[Family, Gatherer] | None = None
        self._streams: dict[str, _OpenResult | _Results | _DataRequest | LargeSubmission] = {}
        self._requests = self._id_characters = 0
        self._results: list[tuple[str, Data]] = []
        self._said_ok = False
        self._over = False

    @property
    def _family(self) -> Family:
        return self._told_more()[0]

    @property
    def _gatherer(self) -> Gatherer:
        return self._told_more()[1]

    def _told_more(self) -> tuple[Family, Gatherer]:
        if self._more is None:
            self._more = Family(self._task_id, self._expected, limits=self.limits), Gatherer(self.limits)
        return self._more

    @property
    def said_output(self) -> bool:
        """Whether the worker sent Output or the conversation is over; nothing more is sent to the worker."""
        return self._over or self._said_ok

    def receive_short(self, replies: Sequence[ProcessReply]) -> Completed | None:
        """Process all replies of an attempt at once, if they are the commonest ones: one small result, ok.

        This is a shortcut for ``receive`` with each reply. In any other case it returns None and
        has not processed any reply.
        """
        if len(replies) != _SHORT_STORY or self._streams or self._more is not None:
            return None
        begun, continued, complete, last, output = replies
        request_id, key, data = begun.request_id, begun.result.init.key, continued.result.data.data
        limits = self.limits
        if (
            request_id != continued.request_id
            or len(request_id) > _LONGEST_KNOWN_ID
            or not data
            or len(data) > limits.inline_limit_bytes
            or len(data) > limits.data_chunk_max_size
            or key not in self._expected
            or (complete, last, output) != _short_end(request_id)
        ):
            return None
        self._over = True
        return Completed([(key, data)], [])

    def receive(self, reply: ProcessReply) -> Sequence[Effect]:
        """Process the next reply of the worker. Never raises: a violation is a ``Failed`` effect."""
        try:
            if self._over or self._said_ok:
                raise ViolationError("a message after Output, which must be the last one")
            kind = reply.WhichOneof("type")
            if kind == "output":
                return self._output(reply.output)
            request_id = reply.request_id
            if not request_id:
                raise ViolationError(f"{kind or 'a reply'} without request_id")
            if kind == "result":
                return self._result(request_id, reply.result)
            if kind == "create_small_task":
                return self._create_small(request_id, reply.create_small_task)
            if kind == "create_large_task":
                return self._create_large(request_id, reply.create_large_task)
            if kind is None:
                raise ViolationError(f"reply {request_id!r} has an empty oneof `type`")
            return self._request_data(request_id, DataKind(kind), getattr(reply, kind).key)
        except ViolationError as violation:
            return self.violated(str(violation))
        except TooMuchError as error:
            self._over = True
            return (Failed(Failure.OUTPUT, str(error)),)

    def ended(self) -> Sequence[Effect]:
        """Process the end of the worker's call with status OK: a violation unless Output came before."""
        if self._over or self._said_ok:
            return _NOTHING
        return self.violated("the call ended without Output")

    def receive_stored(self, key: str, stored: StoredObject) -> Sequence[Effect]:
        """Take a large result that the worker has written into the object store itself."""
        try:
            if self.said_output:
                raise ViolationError("a result after Output, which must be the last one")
            self._take_key(key)
        except ViolationError as violation:
            return self.violated(str(violation))
        self._results.append((key, stored))
        return _NOTHING

    def stored(self, upload: int, stored: StoredObject) -> Sequence[Effect]:
        """Take the name of a finished upload. Completes the attempt if Output has come and this was the last."""
        self._gatherer.stored(upload, stored)
        if self._said_ok and not self._over and not self._gatherer.unstored:
            return self._complete()
        return _NOTHING

    def data_answered(self, request_id: str) -> None:
        """Free the id of a data request, just before the last message of its answer is sent."""
        self._free(request_id)

    def data_delivered(self) -> None:
        """Count an answer to a data request as over: it was sent or given up, and takes no more memory."""
        self._requests -= 1

    def waits_for_data(self, request_id: str) -> bool:
        """Whether an answer to the data request with this id may still be sent."""
        return not self._over and not self._said_ok and self._streams.get(request_id) is _DATA_REQUEST

    # ------------------------------------------------------------------ results

    def _result(self, request_id: str, result: ProcessReply.Result) -> Sequence[Effect]:
        part = result.WhichOneof("type")
        stream = self._streams.get(request_id)
        if part == "data":
            if type(stream) is not _OpenResult:
                raise ViolationError(f"result.data under {request_id!r}, where no result is open")
            chunk = result.data
            what = chunk.WhichOneof("type")
            if what == "data":
                data = chunk.data
                if len(data) > self.limits.data_chunk_max_size:
                    raise too_long("result", stream.key, data, self.limits)
                return self._gatherer.add(stream, data)
            if what == "data_complete":
                return self._close_result(request_id, stream)
            raise ViolationError(f"result.data of {stream.key!r} has an empty oneof `type`")
        if part == "init":
            return self._open_result(request_id, stream, result.init)
        raise ViolationError(f"result under {request_id!r} has an empty oneof `type`")

    def _open_result(self, request_id: str, stream: object, init: objects_pb2.InitKeyedDataStream) -> Sequence[Effect]:
        what = init.WhichOneof("type")
        if what is None:
            raise ViolationError(f"result.init under {request_id!r} has an empty oneof `type`")
        if stream is not None and stream is not _RESULTS:
            raise ViolationError(f"result.init.{what} under {request_id!r}, which {self._carries(stream)}")
        if what == "last_result":
            self._free(request_id)
            return _NOTHING
        self._take_key(init.key)
        self._use(request_id, _OpenResult(init.key))
        return _NOTHING

    def _take_key(self, key: str) -> None:
        family = self._family
        if key not in family.expected:
            raise ViolationError(f"result {key!r} is foreign: it is not an expected output of the task")
        if key in family.taken:
            raise ViolationError(f"result {key!r} again: it was {family.taken[key]} already")
        family.taken[key] = "sent"

    def _close_result(self, request_id: str, stream: _OpenResult) -> Sequence[Effect]:
        results = self._results
        data, effects = self._gatherer.close(stream, partial(self._put_result, len(results)))
        results.append((stream.key, data))
        self._streams[request_id] = _RESULTS
        return effects

    def _put_result(self, index: int, data: Data) -> None:
        self._results[index] = (self._results[index][0], data)

    # ------------------------------------------------------------------ sub-tasks

    def _create_small(self, request_id: str, request: ProcessReply.CreateSmallTaskRequest) -> Sequence[Effect]:
        self._require_free(request_id, "create_small_task")
        family, asked = self._family, Asked()
        for each in request.task_requests:
            family.ask(asked, each.id, each.expected_output_keys, each.data_dependencies)
        tasks = [
            NewTask(task.id, tuple(task.expected_output_keys), tuple(task.data_dependencies), task.payload)
            for task in request.task_requests
        ]
        options = None
        try:
            if not tasks:
                raise InvalidRequestError("task_requests", "is empty")
            if request.HasField("task_options"):
                options = options_from_wire("task_options", request.task_options)
                family.check_options(options)
        except InvalidRequestError:
            family.refused(asked)
            return [Answer(reply_refused(request_id, [task.id for task in tasks]))]
        refused = family.offenders(tasks, self.limits.data_chunk_max_size)
        if refused:
            family.refused(asked)
            return [Answer(reply_refused(request_id, refused))]
        effects: list[Effect] = []
        for index, task in enumerate(tasks):
            gathering = Gathering()
            started = self._gatherer.add(gathering, task.payload)  # type: ignore[arg-type]
            if started:
                _, finished = self._gatherer.close(gathering, partial(put_payload, tasks, index))
                put_payload(tasks, index, b"")
                effects += [*started, *finished]
        family.accept(options, tasks)
        return [*effects, Answer(reply_accepted(request_id))]

    def _create_large(self, request_id: str, request: ProcessReply.CreateLargeTaskRequest) -> Sequence[Effect]:
        what = request.WhichOneof("type")
        if what is None:
            raise ViolationError(f"create_large_task under {request_id!r} has an empty oneof `type`")
        if what == "init_request":
            self._require_free(request_id, "create_large_task.init_request")
            self._use(request_id, LargeSubmission(self._gatherer, request.init_request, self._family))
            return _NOTHING
        submission = self._streams.get(request_id)
        if not isinstance(submission, LargeSubmission):
            raise ViolationError(f"create_large_task.{what} under {request_id!r} before its init_request")
        if what == "task_payload":
            return submission.payload(request.task_payload)
        if not submission.init_task(request.init_task):
            return _NOTHING
        self._free(request_id)
        refused = submission.offenders()
        if refused is not None:
            self._family.refused(submission.asked)
            return [Answer(reply_refused(request_id, refused))]
        self._family.accept(submission.options, submission.tasks)
        return [Answer(reply_accepted(request_id))]

    # ------------------------------------------------------------------ data, output

    def _request_data(self, request_id: str, kind: DataKind, key: str) -> Sequence[Effect]:
        self._require_free(request_id, kind.value)
        try:
            check_identifier("key", key)
        except InvalidRequestError as error:
            return [Answer(data_error(kind, request_id, key, error.detail))]
        self._use(request_id, _DATA_REQUEST)
        return [DataRequested(kind, request_id, key)]

    def _output(self, output: objects_pb2.Output) -> Sequence[Effect]:
        what = output.WhichOneof("type")
        if what == "ok":
            for request_id, stream in self._streams.items():
                if stream is not _RESULTS and stream is not _DATA_REQUEST:
                    raise ViolationError(f"Output ok while {request_id!r} {self._carries(stream)}")
            self._said_ok = True
            if self._gatherer.unstored:
                return [OutputReceived()]
            return self._complete()
        if what == "error":
            self._over = True
            return (Failed(Failure.OUTPUT, output.error.details),)
        raise ViolationError("Output has an empty oneof `type`")

    def _complete(self) -> Sequence[Effect]:
        self._over = True
        return (Completed(self._results, self._family.batches),)

    # ------------------------------------------------------------------ request ids

    def _use(self, request_id: str, stream: _OpenResult | _DataRequest | LargeSubmission) -> None:
        """Set the state of a request id.

        Raises:
            ViolationError: if too many requests are under way, or their ids are too long together.
        """
        if request_id not in self._streams:
            self._id_characters += len(request_id)
            if self._id_characters > MOST_ID_CHARACTERS:
                raise ViolationError(f"request ids in use have more than {MOST_ID_CHARACTERS:,} characters together")
        if type(stream) is not _OpenResult:  # open results are bounded by the expected outputs
            self._requests += 1
            if self._requests > MOST_REQUESTS:
                raise ViolationError(
                    f"more than {MOST_REQUESTS:,} data requests and large submissions under way at once;"
                    " read what is answered before asking for more"
                )
        self._streams[request_id] = stream

    def _free(self, request_id: str) -> None:
        """Free a request id, which then may carry anything else."""
        stream = self._streams.pop(request_id, None)
        if stream is not None:
            self._id_characters -= len(request_id)
            if isinstance(stream, LargeSubmission):
                self._requests -= 1

    # ------------------------------------------------------------------ violations

    def violated(self, what: str) -> Sequence[Effect]:
        """End the conversation as ``Failed``: the worker broke the protocol."""
        self._over = True
        return (Failed(Failure.ATTEMPT, f"the worker broke the protocol: {what}"),)

    def _require_free(self, request_id: str, what: str) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            raise ViolationError(f"{what} under {request_id!r}, which {self._carries(stream)}")

    @staticmethod
    def _carries(stream: object) -> str:
        if isinstance(stream, _OpenResult):
            return f"carries result {stream.key!r}, not yet complete"
        if isinstance(stream, LargeSubmission):
            return "carries a large submission, not yet complete"
        if stream is _DATA_REQUEST:
            return "waits for data"
        return "carries results until last_result"


@lru_cache(maxsize=16)
def _short_end(request_id: str) -> tuple[ProcessReply, ProcessReply, ProcessReply] | None:
    """Build the last three replies of the commonest conversation: data_complete, last_result, Output ok."""
    if not request_id:
        return None
    complete = ProcessReply.Result(data=objects_pb2.DataChunk(data_complete=True))
    last = ProcessReply.Result(init=objects_pb2.InitKeyedDataStream(last_result=True))
    return (
        ProcessReply(request_id=request_id, result=complete),
        ProcessReply(request_id=request_id, result=last),
        ProcessReply(output=objects_pb2.Output(ok=objects_pb2.Empty())),
    )
