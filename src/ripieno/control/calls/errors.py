"""Every failure of a call becomes one gRPC code and one sentence.

An interceptor around all methods: our own errors are mapped by ``wire.codes``; a request
that does not parse is the caller's fault; anything else is our bug (an ``InvariantError`` too), logged with
its story and shown without it.
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

#: Status details travel percent-encoded in metadata, of which peers accept 8 KiB in all.
_LONGEST_ENCODED = 6_000


class _Refused:
    """Stands for a request that was refused while it was parsed."""

    def __init__(self, error: RipienoError) -> None:
        self.error = error


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the server.

    It stands first in the chain: whatever stands behind it is asked at every call, and may raise our errors
    to refuse the call. What is remembered is the wrapping of a handler, as long as it is the same from call
    to call.
    """

    def __init__(self) -> None:
        #: For each method that exists: the handler that was found last, and that handler wrapped.
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a method, wrapped."""
        try:
            handler = await continuation(handler_call_details)
        except Exception as error:  # noqa: BLE001 - every failure gets its code here
            return _refusal(error)
        if handler is None:  # unknown methods are not remembered: there is no end of them
            return None
        known, wrapped = self._wrapped.get(handler_call_details.method, (None, None))
        if known is not handler:
            wrapped = _wrap(handler)
            self._wrapped[handler_call_details.method] = handler, wrapped
        return wrapped


def _refusal(error: Exception) -> Any:
    """A handler that refuses its call. One that takes a stream: it need not wait for the request's message."""
    answer = _answer(error, _refusal)

    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await _end(context, answer)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _wrap(handler: Any) -> Any:
    # A single request is parsed before its method is called, and what that raises would reach nobody here.
    # Those of a stream are parsed when the method reads them, by whichever way, and it raises what is raised then.
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
    """``parse`` that raises InvalidRequestError where the bytes are no message of its type."""

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
            # Its traceback would keep the message in memory until the next look for cycles.
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
    # Ours write to the context; those of the standard services are generators.
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
    """How a call that failed ends."""

    code: grpc.StatusCode
    detail: str
    metadata: tuple[tuple[str, str], ...] = ()


#: Nothing can be written any more: the client has left, which is no error, and nobody hears of it.
_NOBODY_THERE = _Answer(grpc.StatusCode.CANCELLED, "")
_BUG = _Answer(grpc.StatusCode.INTERNAL, "this is a bug of the server; its log has the story")


def _answer(raised: Exception, method: Any) -> BaseException | _Answer:
    """What is told of a failure, or what gRPC knows already; a bug is logged."""
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
    """End a call; not while its error is being handled, or gRPC would keep that (see ``_without_frames``)."""
    if isinstance(answer, BaseException):
        raise answer
    if answer is _NOBODY_THERE:
        raise asyncio.CancelledError
    await context.abort(*answer)
    raise AssertionError("abort always raises")


def _without_frames(error: BaseException) -> None:
    """Forget where an error came from, once that has been told, with all errors that it refers to.

    gRPC keeps what ``abort`` raises in a cycle with its call, and so does a future that is a local variable of
    whoever waited for it. Frames in a traceback would keep the whole request in memory until the next look
    for cycles (measured: 1.4 GiB).
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
    """The error that a group of them is about: a bug of ours before all others, else the first one of ours."""
    if not isinstance(error, ExceptionGroup):
        return error
    errors = [_foremost(each) for each in error.exceptions]
    ours = [each for each in errors if isinstance(each, RipienoError) and not isinstance(each, InvariantError)]
    bugs = [each for each in errors if each not in ours and not isinstance(each, grpc.aio.BaseError)]
    return (bugs or ours or errors)[0]


def bounded(detail: str) -> str:
    """A detail that fits into the metadata that every peer accepts."""
    while len(quote(detail)) > _LONGEST_ENCODED:
        detail = detail[: int(len(detail) * 0.8)] + "..."
    return detail
