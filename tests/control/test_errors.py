"""How calls that fail end: with whose fault it is, with nothing of the story, and leaving nothing in memory."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from structlog.testing import capture_logs

from ripieno.control.calls.errors import ErrorInterceptor
from ripieno.domain.errors import InvariantError, NotFoundError, PermissionDeniedError, UnavailableError

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
_PATIENCE_S = 20.0


class Request:
    """What a call brings, in the memory of the server."""

    seen: "list[weakref.ref[Request]]"

    def __init__(self, data: bytes) -> None:
        self.data = data
        type(self).seen.append(weakref.ref(self))


@asynccontextmanager
async def failing(fail: Callable[[], Any], kind: str) -> AsyncIterator[Any]:
    """A method that reads its request and fails, as a stub."""
    Request.seen = []

    async def method(request: Any, context: Any) -> Any:
        kept = request if isinstance(request, Request) else await context.read()
        assert kept.data == b"x"
        await fail()

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    handlers = {"fail": make(method, Request, lambda _reply: b"")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield getattr(channel, kind)("/test/fail")
    finally:
        await server.stop(0)


async def end_of(call: Any, kind: str) -> tuple[grpc.StatusCode, str]:
    async def requests() -> AsyncIterator[bytes]:
        yield b"x"

    called = call(b"x" if kind.startswith("unary") else requests())
    async with asyncio.timeout(_PATIENCE_S):
        return await called.code(), await called.details()


async def end_without_requests(call: Any, kind: str) -> tuple[grpc.StatusCode, str]:
    """Of a call that ends before its requests are read: to write one meanwhile is an error of the client's own."""
    called = call(b"x") if kind.startswith("unary") else call()
    async with asyncio.timeout(_PATIENCE_S):
        return await called.code(), await called.details()


async def ours() -> None:
    raise NotFoundError("no such thing")


async def a_bug() -> None:
    raise ZeroDivisionError("a secret of ours")


async def a_bug_of_ours() -> None:
    raise InvariantError("a statement of ours is wrong: a secret of ours")


async def in_groups() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        await ours()


async def handed_over() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(UnavailableError("away"))
    await future


async def caused() -> None:
    try:
        await in_groups()
    except* NotFoundError as errors:
        raise UnavailableError("away") from errors


ENDS = [
    (ours, grpc.StatusCode.NOT_FOUND),
    (a_bug, grpc.StatusCode.INTERNAL),
    (a_bug_of_ours, grpc.StatusCode.INTERNAL),
    (in_groups, grpc.StatusCode.NOT_FOUND),
    (handed_over, grpc.StatusCode.UNAVAILABLE),
    (caused, grpc.StatusCode.UNAVAILABLE),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fail", "code"), ENDS)
async def test_a_call_that_fails(fail: Callable[[], Any], code: grpc.StatusCode, kind: str) -> None:
    """Its end has the code and no secret of ours; its request is gone with it, not with the next look for cycles."""
    async with failing(fail, kind) as call:
        gc.collect()
        gc.disable()
        try:
            with capture_logs() as logs:
                ended, told = await end_of(call, kind)
            logged = [entry["log_level"] for entry in logs]
            logs.clear()  # a log need not keep what it was given; this one does
            async with asyncio.timeout(_PATIENCE_S):
                while any(request() is not None for request in Request.seen):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
    assert ended is code
    assert logged == (["error"] if code is grpc.StatusCode.INTERNAL else [])
    assert "secret" not in told
    assert Request.seen


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Stands in the chain; counts how often it is asked, and refuses those calls that it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.refused: set[int] = set()

    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        self.asked += 1
        if self.asked in self.refused:
            raise PermissionDeniedError(f"call {self.asked} may not pass")
        return await continuation(handler_call_details)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_interceptor_of_the_chain_is_asked_at_every_call(kind: str) -> None:
    """Also when what stands before it remembers wrapped handlers; who is refused does not reach the method."""
    reached: list[str] = []

    async def unary(_request: Any, _context: Any) -> bytes:
        reached.append(kind)
        return b""

    async def stream(_request: Any, _context: Any) -> None:
        reached.append(kind)

    method = unary if kind.endswith("unary") else stream
    handlers = {"do": getattr(grpc, f"{kind}_rpc_method_handler")(method, bytes, bytes)}
    keepers = [Doorkeeper(), Doorkeeper()]
    keepers[1].refused = {2, 4}
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), *keepers])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ends = [await end_without_requests(getattr(channel, kind)("/test/do"), kind) for _ in range(5)]
    finally:
        await server.stop(0)
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    assert [code for code, _ in ends] == [ok, denied, ok, denied, ok]
    assert "call 4 may not pass" in ends[3][1]
    assert [keeper.asked for keeper in keepers] == [5, 5]
    assert len(reached) == 3


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
@pytest.mark.parametrize("iterating", [False, True])
async def test_rubbish_amid_a_stream_is_not_taken_for_its_end(kind: str, iterating: bool) -> None:
    """However the method reads: what was half said is not taken for the whole."""
    read: list[Any] = []

    async def method(requests: Any, context: Any) -> None:
        if iterating:
            async for request in requests:
                read.append(request)  # noqa: PERF401 - what was read before the error counts
        else:
            while isinstance(request := await context.read(), bytes):
                read.append(request)

    def parse(data: bytes) -> bytes:
        if data == b"rubbish":
            raise DecodeError("Wire format was corrupt")
        return data

    async def requests() -> AsyncIterator[bytes]:
        yield b"good"
        yield b"rubbish"

    handlers = {"do": getattr(grpc, f"{kind}_rpc_method_handler")(method, parse, lambda _reply: b"")}
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(_PATIENCE_S):
            call = getattr(channel, kind)("/test/do")(requests())
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "not a valid message of its type" in await call.details()
    finally:
        await server.stop(0)
    assert read == [b"good"]
