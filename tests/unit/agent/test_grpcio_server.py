"""Our end of HTTP/2 against gRPC's own server with a pool of threads, as workers of others in Python have it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from ripieno.agent.transport.calls import Call
from ripieno.agent.transport.http2 import connect
from unit.agent.bare_peer import all_of

SIZES = [0, 1, 100, 16_384, 65_536, 3_000_000]
THREADS = 4
DEADLINE_S = 60


class Handlers(grpc.GenericRpcHandler):
    """Echoes, fails, or waits until its caller gives up.

    Attributes:
        given_up: A caller did.
    """

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(
            {"/a/Echo": self._echo, "/a/Fail": self._fail, "/a/Wait": self._wait}[handler_call_details.method]
        )

    @staticmethod
    def _echo(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from requests

    @staticmethod
    def _fail(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield next(requests)
        context.abort(grpc.StatusCode.DATA_LOSS, "gone: 100 % of größe")

    def _wait(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.given_up.set)
        yield next(requests)
        self.given_up.wait(DEADLINE_S)


@pytest.fixture(params=["tcp", "unix"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Handlers, str]]:
    handlers, pool = Handlers(), ThreadPoolExecutor(THREADS)
    server = grpc.server(pool, handlers=[handlers], options=[("grpc.max_receive_message_length", -1)])
    unix = f"unix:{tmp_path / 'server'}"
    port = server.add_insecure_port("127.0.0.1:0" if request.param == "tcp" else unix)
    server.start()
    yield handlers, f"127.0.0.1:{port}" if request.param == "tcp" else unix
    handlers.given_up.set()
    server.stop(None).wait()
    pool.shutdown()


async def test_more_calls_than_threads_each_both_ways_at_once(served: tuple[Handlers, str]) -> None:
    connection = await connect(served[1])
    try:

        async def echoed(number: int) -> None:
            call = Call(connection, b"/a/Echo")
            sent = [bytes([(size + number) % 251]) * size for size in SIZES]

            async def write() -> None:
                for message in sent:
                    await call.write([message])
                call.half_close()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                assert await all_of(call) == sent
            assert call.code is grpc.StatusCode.OK, call.status

        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            for number in range(3 * THREADS):
                tasks.create_task(echoed(number))
    finally:
        connection.close()
        await asyncio.sleep(0)


async def test_a_status_in_the_middle_of_a_stream(served: tuple[Handlers, str]) -> None:
    connection = await connect(served[1])
    try:
        call = Call(connection, b"/a/Fail")
        await call.write([b"x"])
        async with asyncio.timeout(DEADLINE_S):
            assert await all_of(call) == [b"x"]
        assert call.code is grpc.StatusCode.DATA_LOSS
        assert call.details == "gone: 100 % of größe"
    finally:
        connection.close()
        await asyncio.sleep(0)


async def test_a_call_that_was_given_up_is_told_to_the_handler(served: tuple[Handlers, str]) -> None:
    handlers, address = served
    connection = await connect(address)
    try:
        call = Call(connection, b"/a/Wait")
        await call.write([b"x"])
        async with asyncio.timeout(DEADLINE_S):
            assert await call.read() == [b"x"]
            call.cancel()
            assert await asyncio.to_thread(handlers.given_up.wait, DEADLINE_S)
        again = Call(connection, b"/a/Echo")
        await again.write([b"y"])
        again.half_close()
        async with asyncio.timeout(DEADLINE_S):
            assert await all_of(again) == [b"y"]
    finally:
        connection.close()
        await asyncio.sleep(0)
