"""Error mapping: an interceptor that turns every failure of a call into one gRPC code and one sentence.

Our own errors are mapped by ``wire.codes``; a request that does not parse is the caller's fault;
anything else, an ``InvariantError`` too, is our bug, which is logged with its traceback and shown to
the client without it.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from ripieno.domain.errors import InvalidRequestError, InvariantError, RipienoError
from ripieno.wire.codes import code_of, metadata_of

_log = structlog.get_logger(__name__)

#: The most bytes of a detail. It travels percent-encoded in the metadata, of which peers accept 8 KiB in all.
_LONGEST_ENCODED = 6_000


class _Refused:
    """Placeholder for a request that was refused while it was parsed; holds the error."""

    def __init__(self, error: RipienoError) -> None:
        self.error = error


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Interceptor that wraps every handler of the server.

    It stands first in the chain. Interceptors behind it are asked at every call, and may raise our errors
    to refuse the call. The wrapping of a handler is remembered as long as these return the same handler from
    call to call.
    """

    def __init__(self) -> None:
        #: For each method that exists: the handler that was found last, and that handler wrapped.
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the method's handler, wrapped so that its failures are mapped."""
        try:
            handler = await continuation(handler_call_details)
        except Exception as error:  # noqa: BLE001 - every failure gets its code here
            return _refusal(error)
        if handler is None:  # unknown methods are not remembered: clients may name any number
            return None
        known, wrapped = self._wrapped.get(handler_call_details.method, (None, None))
        if known is not handler:
            wrapped = _wrap(handler)
            self._wrapped[handler_call_details.method] = handler, wrapped
        return wrapped


def _refusal(error: Exception) -> Any:
    """Return a handler that refuses its call. It takes a stream, so it need not wait for the request's message."""
    answer = _answer(error, _refusal)

    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await _end(context, answer)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _wrap(handler: Any) -> Any:
    # gRPC parses a single request before it calls the method, so the guards here would not see an error of the parser.
    # Messages of a stream are parsed when the method reads them, and their errors are raised within the method.
    parse, parse_each = _forgiving(handler.request_deserializer), strictly(handler.request_deserializer)
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(
            _guard_reply(handler.unary_unary), parse, handler.response_serializer
        )
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(
            _guard_reply(handler.stream_unary), parse_each, handler.response_serializer
        )
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(
            _guard_replies(handler.unary_stream), parse, handler.response_serializer
        )
    return grpc.stream_stream_rpc_method_handler(
        _guard_replies(handler.stream_stream), parse_each, handler.response_serializer
    )


def strictly(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Wrap ``parse`` so that it raises ``InvalidRequestError`` if the bytes are no message of its type."""

    def deserialize(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            raise InvalidRequestError("", f"the request is not a valid message of its type: {error}") from error

    return deserialize


def _forgiving(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    parse = strictly(parse)

    def deserialize(data: bytes) -> Any:
        try:
            return parse(data)
        except RipienoError as error:
            # The error's traceback would keep the message in memory until the next garbage collection.
            return _Refused(error.with_traceback(None))

    return deserialize


def _checked(request: Any) -> Any:
    if isinstance(request, _Refused):
        raise request.error
    return request


def _guard_reply(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(_checked(request), context)
        except Exception as error:  # noqa: BLE001 - every failure gets its code here
            answer = _answer(error, method)
        del request  # see _without_frames
        return await _end(context, answer)

    return call


def _guard_replies(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    # Our streaming methods write to the context; those of the standard services are generators.
    return _guard_generator(method) if inspect.isasyncgenfunction(method) else _guard_reply(method)


def _guard_generator(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for reply in method(_checked(request), context):
                yield reply
        except Exception as error:  # noqa: BLE001 - every failure gets its code here
            answer = _answer(error, method)
        else:
            return
        del request  # see _without_frames
        await _end(context, answer)

    return call


class _Answer(NamedTuple):
    """The gRPC status with which a failed call ends."""

    code: grpc.StatusCode
    detail: str
    metadata: tuple[tuple[str, str], ...] = ()


#: The answer after gRPC reported that nothing can be written any more: the client has left, which is not logged.
_NOBODY_THERE = _Answer(grpc.StatusCode.CANCELLED, "")
_BUG = _Answer(grpc.StatusCode.INTERNAL, "this is a bug of the server; its log has the story")


def _answer(raised: Exception, method: Any) -> BaseException | _Answer:
    """Return the status for a failure, or the error itself if gRPC handles it; log the failure if it is our bug."""
    error = _foremost(raised)
    if isinstance(error, RipienoError) and not isinstance(error, InvariantError):
        answer: Exception | _Answer = _Answer(code_of(error), bounded(error.detail), metadata_of(error))
    elif isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
        answer = error
    elif isinstance(error, grpc.aio.BaseError):
        answer = _NOBODY_THERE
    else:
        _log.error("call failed by a bug", method=method.__qualname__, exc_info=error)
        answer = _BUG
    _without_frames(raised)
    return answer


async def _end(context: grpc.aio.ServicerContext[Any, Any], answer: BaseException | _Answer) -> NoReturn:
    """End a call with a status. Not to be called in an ``except`` block: gRPC would keep the error (``_without_frames``)."""
    if isinstance(answer, BaseException):
        raise answer
    if answer is _NOBODY_THERE:
        raise asyncio.CancelledError
    await context.abort(*answer)
    raise AssertionError("abort always raises")


def _without_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of all errors that it refers to, once the error was logged.

    gRPC keeps what ``abort`` raises in a cycle with its call; a future does the same with the frame that waited
    for it and has it as a local variable. Frames in a traceback would keep the whole request in memory until the
    next garbage collection (measured: 1.4 GiB).
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:  # causes may go in circles
            continue
        seen.add(id(each))
        each.__traceback__ = None
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


def _foremost(error: Exception) -> Exception:
    """Return the error that an exception group is about: a bug before all others, else the first of our own errors."""
    if not isinstance(error, ExceptionGroup):
        return error
    errors = [_foremost(each) for each in error.exceptions]
    ours = [each for each in errors if isinstance(each, RipienoError) and not isinstance(each, InvariantError)]
    bugs = [each for each in errors if each not in ours and not isinstance(each, grpc.aio.BaseError)]
    return (bugs or ours or errors)[0]


def bounded(detail: str) -> str:
    """Shorten a detail so that it fits into the metadata that every peer accepts."""
    while len(quote(detail)) > _LONGEST_ENCODED:
        detail = detail[: int(len(detail) * 0.8)] + "..."
    return detail
