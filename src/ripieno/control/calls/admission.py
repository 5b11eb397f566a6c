"""Admission: an interceptor that refuses calls, or lets them wait, before their work begins.

It stands behind the interceptor that maps errors. Requests are weighed before they are parsed,
submissions wait for their turn before they are read, questions about many ids before they are
answered (long ones unparsed), and each client's streams, waiting calls and what these wait for are counted.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import Message

from ripieno.control.calls.arrivals import Arrivals, arriving
from ripieno.control.calls.errors import strictly
from ripieno.control.calls.limits import ControlLimits, Limit, Meters, Shares, client_of
from ripieno.control.calls.questions import Questions
from ripieno.domain.errors import InvalidRequestError
from ripieno.wire.fields import count_field
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2
from ripieno.wire.protos.v1 import (
    agents_pb2,
    events_pb2,
    partitions_pb2,
    query_pb2,
    results_pb2,
    sessions_pb2,
    tasks_pb2,
)


def _methods(service: ServiceDescriptor, *names: str) -> frozenset[str]:
    return frozenset(f"/{service.full_name}/{service.methods_by_name[name].name}" for name in names)


_SUBMITTER_SERVICE = submitter_service_pb2.DESCRIPTOR.services_by_name["Submitter"]
_RESULTS_SERVICE = results_pb2.DESCRIPTOR.services_by_name["Results"]
_EVENTS_SERVICE = events_pb2.DESCRIPTOR.services_by_name["Events"]
_TASKS_SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["Tasks"]
#: Services that have lists.
_LISTS = (
    sessions_pb2.DESCRIPTOR.services_by_name["Sessions"],
    partitions_pb2.DESCRIPTOR.services_by_name["Partitions"],
    agents_pb2.DESCRIPTOR.services_by_name["Agents"],
    _TASKS_SERVICE,
    _RESULTS_SERVICE,
)
_SUBMITTER = _SUBMITTER_SERVICE.full_name
_RESULTS = _RESULTS_SERVICE.full_name
#: Prefixes of the methods of clients. Agents are not among them: they weigh themselves what they send, and gRPC's
#: limit of a message bounds it.
_CLIENTS = (f"/{_SUBMITTER}/", *(f"/{service.full_name}/" for service in (_EVENTS_SERVICE, *_LISTS)))

_SUBMIT = f"/{_SUBMITTER}/CreateSmallTasks"
_STREAMS = (
    _methods(_SUBMITTER_SERVICE, "CreateLargeTasks", "TryGetResultStream")
    | _methods(_RESULTS_SERVICE, "Follow", "Read", "ListTaskIds", "Upload")
    | _methods(_EVENTS_SERVICE, "Follow")
    | _methods(_TASKS_SERVICE, "FollowOutput", "FollowProgress", "GetInputs")
)
_WAITS = _methods(_SUBMITTER_SERVICE, "WaitForCompletion", "WaitForAvailability")


def _conditions(query: query_pb2.Query | query_pb2.Filter) -> int:
    """Count the conditions of a query to a list, each of which may name an id."""
    filter_ = query.filter if isinstance(query, query_pb2.Query) else query
    return sum([len(conjunction.all_of) for conjunction in filter_.any_of])


_QUERIES = (query_pb2.Query.DESCRIPTOR.full_name, query_pb2.Filter.DESCRIPTOR.full_name)
#: Methods that answer a query to a list.
_LISTINGS = frozenset(
    f"/{service.full_name}/{method.name}"
    for service in _LISTS
    for method in service.methods
    if method.input_type.full_name in _QUERIES
)

#: For each method that takes many ids: counts those that a request names.
_IDS: Mapping[str, Callable[[Any], int]] = {
    **dict.fromkeys(_LISTINGS, _conditions),
    f"/{_SUBMITTER}/ListTasks": lambda request: len(request.session.ids) + len(request.task.ids),
    f"/{_SUBMITTER}/CountTasks": lambda request: len(request.session.ids) + len(request.task.ids),
    f"/{_SUBMITTER}/CancelTasks": lambda request: len(request.session.ids) + len(request.task.ids),
    f"/{_SUBMITTER}/WaitForCompletion": lambda wait: len(wait.filter.session.ids) + len(wait.filter.task.ids),
    f"/{_SUBMITTER}/ListSessions": lambda request: len(request.sessions),
    f"/{_SUBMITTER}/GetTaskStatus": lambda request: len(request.task_ids),
    f"/{_SUBMITTER}/GetResultStatus": lambda request: len(request.result_ids),
    f"/{_RESULTS}/Read": lambda request: len(request.keys),
    f"/{_RESULTS}/Follow": lambda request: len(request.keys),
    f"/{_TASKS_SERVICE.full_name}/Retry": lambda request: len(request.task_ids),
    f"/{_EVENTS_SERVICE.full_name}/Follow": lambda request: len(request.session_ids),
    f"/{_RESULTS}/DeleteData": lambda request: len(request.keys),
}

#: Of the methods in ``_IDS``, those that answer at once with one message.
_QUESTIONS = _LISTINGS | _methods(
    _SUBMITTER_SERVICE, "ListTasks", "CountTasks", "ListSessions", "GetTaskStatus", "GetResultStatus"
)
#: A longer question waits for its turn unparsed, which takes a fifth of the memory.
_LONG_QUESTION_BYTES = 64 * 1024


class _Parts(NamedTuple):
    """The field of a request that holds what is created.

    Attributes:
        shortest_bytes: Bytes of the shortest part: the parts of a request that is no longer than as many of them as are
            allowed need not be counted before it is parsed.
    """

    name: str
    number: int
    shortest_bytes: int


def _parts(message: Descriptor, name: str, shortest_bytes: int) -> _Parts:
    return _Parts(name, message.fields_by_name[name].number, shortest_bytes)


#: Methods whose request brings data that is kept in memory until it is written: it is read in its turn.
_ARRIVING: Mapping[str, _Parts] = {
    _SUBMIT: _parts(submitter_service_pb2.CreateSmallTaskRequest.DESCRIPTOR, "task_requests", 8),  # id, key
    f"/{_TASKS_SERVICE.full_name}/Submit": _parts(tasks_pb2.SubmitTasksRequest.DESCRIPTOR, "tasks", 2),
    f"/{_RESULTS}/Create": _parts(results_pb2.CreateResultsRequest.DESCRIPTOR, "entries", 2),
}

#: Bytes of the shortest key, likewise: the keys of a request that is short enough need not be counted.
_SHORTEST_KEY_BYTES = 2

Handler = Any
Method = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Any]


class Admission(grpc.aio.ServerInterceptor):
    """Interceptor that applies the limits of single calls and of clients.

    Args:
        arrivals: Where submissions wait for their turn.
        waited: Counts the tasks and results that each client waits for.
        questions: Where questions about many ids wait for their turn.
    """

    def __init__(self, limits: ControlLimits, arrivals: Arrivals, waited: Meters, questions: Questions) -> None:
        self._limits = limits
        self._arrivals = arrivals
        self._streams = Shares(limits.streams_per_client)
        self._waits = Shares(limits.waiters_per_client)
        self._waited = waited
        self._questions = questions
        #: For each method that exists: the handler that was found last, and that handler with the limits applied.
        self._admitting: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, wrapped so that it admits what is within the limits."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith(_CLIENTS):
            return handler
        known, admitting = self._admitting.get(method, (None, None))
        if known is not handler:
            admitting = self._admit(method, handler)
            self._admitting[method] = handler, admitting
        return admitting

    def _admit(self, method: str, handler: Handler) -> Handler:
        parse = self._weighed(handler.request_deserializer, method)
        if method in _ARRIVING:
            behaviour = _arriving(self._arrivals, handler.unary_unary)
            return grpc.stream_unary_rpc_method_handler(behaviour, parse, handler.response_serializer)
        if method in _STREAMS:
            handler = _through(handler, lambda behaviour: _sharing(self._streams, behaviour))
        elif method in _WAITS:
            if (count_ids := _IDS.get(method)) is not None:
                handler = _through(handler, lambda behaviour: _metered(self._waited, count_ids, behaviour))
            handler = _through(handler, lambda behaviour: _sharing(self._waits, behaviour))
        elif method in _QUESTIONS:
            return self._admit_question(handler, method, parse)
        return handler._replace(request_deserializer=parse)

    def _admit_question(self, handler: Handler, method: str, parse: Callable[[bytes], Any]) -> Handler:
        def parse_short(data: bytes) -> Any:
            self._limits.bytes_per_call.check(len(data))
            return data if len(data) > _LONG_QUESTION_BYTES else parse(data)

        behave = _through(
            handler, lambda behaviour: _in_turn(self._questions, _IDS[method], strictly(parse), behaviour)
        )
        return behave._replace(request_deserializer=parse_short)

    def _weighed(self, parse: Callable[[bytes], Any], method: str) -> Callable[[bytes], Any]:
        """Return a parser that refuses requests beyond the limits; it raises ``LimitError``."""
        limits, count_ids = self._limits, _IDS.get(method)
        parts = _ARRIVING.get(method)

        def submission(data: bytes) -> Any:
            assert parts is not None
            arriving.get().arrived(len(data))
            if len(data) > limits.bytes_per_call.value and count_field(data, parts.number, 2) > 1:
                raise limits.bytes_per_call.refused(f"{len(data):,}")  # a single task cannot be cut
            _count_parts(data, parts, limits.tasks_per_call)
            request = parse(data)
            if parts.name != "entries":
                _count_keys(getattr(request, parts.name), len(data), limits.keys_per_call)
            return request

        def inquiry(data: bytes) -> Any:
            limits.bytes_per_call.check(len(data))
            request = parse(data)
            if count_ids is not None:
                limits.ids_per_request.check(count_ids(request))
            return request

        return inquiry if parts is None else submission


def _count_parts(data: bytes, parts: _Parts, limit: Limit) -> None:
    """Raise ``LimitError`` if a request creates more than is allowed; called before any of it is parsed."""
    if len(data) > parts.shortest_bytes * limit.value:
        count = count_field(data, parts.number, limit.value + 1)
        if count > limit.value:
            raise limit.refused(f"more than {limit.value:,}")


def _count_keys(tasks: Iterable[Any], size: int, limit: Limit) -> None:
    """Raise ``LimitError`` if a request has too many keys, before they are looked at, which takes 1 us each."""
    if size > _SHORTEST_KEY_BYTES * limit.value:
        limit.check(sum([len(task.expected_output_keys) + len(task.data_dependencies) for task in tasks]))


def _through(handler: Handler, wrap: Callable[[Method], Method]) -> Handler:
    """Return a copy of a handler whose behaviour is wrapped by ``wrap``."""
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    return handler._replace(**{kind: wrap(getattr(handler, kind)) for kind in kinds if getattr(handler, kind)})


def _sharing(shares: Shares, behaviour: Method) -> Method:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with shares.hold(client_of(context.peer())):
            return await behaviour(request, context)

    return call


def _metered(waited: Meters, count_ids: Callable[[Any], int], behaviour: Method) -> Method:
    """Wrap a method so that the ids it waits for are counted for its client while the call lasts."""

    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        ids, client = count_ids(request) if isinstance(request, Message) else 0, client_of(context.peer())
        waited.check(client, ids)
        with waited.counting(client, lambda: ids):
            return await behaviour(request, context)

    return call


def _in_turn(
    questions: Questions, count_ids: Callable[[Any], int], parse: Callable[[bytes], Any], behaviour: Method
) -> Method:
    """Wrap a method so that it answers a question about many ids in its turn; long requests come unparsed, as bytes."""

    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if isinstance(request, bytes):
            async with questions.turn(None, len(request)):
                return await behaviour(parse(request), context)
        # A request that was refused while it was parsed is no message and names no ids; the method raises its error.
        async with questions.turn(count_ids(request) if isinstance(request, Message) else 0, _LONG_QUESTION_BYTES):
            return await behaviour(request, context)

    return call


def _arriving(arrivals: Arrivals, behaviour: Method) -> Method:
    """Wrap a method so that its submission is read in its turn, and its bytes are counted while the call lasts.

    The handler is registered as one that takes a stream, since gRPC calls such a method before its message is
    read. There is no difference on the wire.
    """

    async def call(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        arrival = await arrivals.enter(context.peer())
        try:
            arriving.set(arrival)
            request = await context.read()
            if request is grpc.aio.EOF:
                raise InvalidRequestError("", "the call brought no message; send one request")
            await arrival.hold()
            return await behaviour(request, context)
        finally:
            arrival.leave()

    return call
