"""What gRPC alone costs here, without anything of ours behind it: ``python -m benchmarks.floors``.

Two processes on this machine, uvloop, gRPC without its event engine, handlers that do nothing. One at a time: the
time of a round trip. Many at a time: calls a second, and the processor time that a call takes at both ends. What
Ripieno does of the same kind cannot be faster; ``docs/performance.md`` quotes the figures.
"""

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import grpc.aio
import psutil
import uvloop

import benchmarks.bare  # noqa: F401 - sets what gRPC reads when it is first used
from ripieno.agent.transport.calls import Call
from ripieno.agent.transport.http2 import connect

_ALONE = 2_000
_MANY = 5_000
_AT_A_TIME = 64
_ASKED, _ANSWERED = 3, 5
_MESSAGE = bytes(100)

Context = grpc.aio.ServicerContext[bytes, bytes]


async def _unary(request: bytes, context: Context) -> bytes:
    return request


async def _two_replies(request: bytes, context: Context) -> None:
    await context.write(request)
    await context.write(b"")


async def _process(requests: Any, context: Context) -> None:
    for _ in range(_ASKED):
        await context.read()
    for _ in range(_ANSWERED):
        await context.write(_MESSAGE)


async def _echo(requests: Any, context: Context) -> None:
    while True:
        message: object = await context.read()
        if not isinstance(message, bytes):
            return
        await context.write(message)


async def serve(addresses: list[str]) -> None:
    """Serve all methods until SIGTERM; says when it does."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "TwoReplies": grpc.unary_stream_rpc_method_handler(_two_replies),
        "Process": grpc.stream_stream_rpc_method_handler(_process),
        "Echo": grpc.stream_stream_rpc_method_handler(_echo),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Floor", methods),))
    for address in addresses:
        server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await stop.wait()
    await server.stop(0)


Act = Callable[[], Awaitable[object]]


async def _alone(act: Act) -> float:
    """Milliseconds of one round trip, the middle of many."""
    took = []
    for _ in range(_ALONE):
        began = time.perf_counter()
        await act()
        took.append(time.perf_counter() - began)
    return median(took) * 1e3


async def _many(act: Act, server: psutil.Process, at_a_time: int) -> str:
    """Calls a second, and what one of them takes at either end."""

    async def some() -> None:
        for _ in range(_MANY // at_a_time):
            await act()

    calls = _MANY // at_a_time * at_a_time
    before, began = (_spent(psutil.Process()), _spent(server)), time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_a_time)))
    took = time.perf_counter() - began
    client, served = (
        (_spent(process) - spent) / calls * 1e6
        for process, spent in zip((psutil.Process(), server), before, strict=True)
    )
    return f"{calls / took:,.0f} a second; processor time: caller {client:.0f} us, server {served:.0f} us"


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _read(call: Any) -> None:
    async for _ in call:
        pass


async def _converse(call: Any) -> None:
    for _ in range(_ASKED):
        await call.write(_MESSAGE)
    for _ in range(_ANSWERED):
        await call.read()
    await call.done_writing()
    await call.code()


async def measure(tcp: str, unix: str, server: psutil.Process) -> None:
    """Print one line for each floor."""
    async with grpc.aio.insecure_channel(tcp) as channel:
        unary: Any = channel.unary_unary("/Floor/Unary")
        streamed: Any = channel.unary_stream("/Floor/TwoReplies")
        stream: Any = channel.stream_stream("/Floor/Echo")()

        async def echo() -> None:
            await stream.write(_MESSAGE)
            await stream.read()

        await unary(_MESSAGE)
        print(f"unary call, alone: {await _alone(lambda: unary(_MESSAGE)):.2f} ms")
        print(f"message on a stream and back, alone: {await _alone(echo):.2f} ms")
        print(f"unary call, 64 at a time: {await _many(lambda: unary(_MESSAGE), server, _AT_A_TIME)}")
        replies = await _many(lambda: _read(streamed(_MESSAGE)), server, _AT_A_TIME)
        print(f"call with two replies, 64 at a time: {replies}")
        stream.cancel()
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(unix, options=options) as channel:
        process: Any = channel.stream_stream("/Floor/Process")
        one = await _many(lambda: _converse(process()), server, 1)
        print(f"call of three and five messages over a unix socket, one at a time: {one}")
    connection = await connect(unix)

    async def own() -> None:
        call = Call(connection, b"/Floor/Process")
        await call.write([_MESSAGE] * _ASKED)
        got = 0
        while got < _ANSWERED:
            got += len(await call.read())
        call.half_close()
        await call.read()

    print(f"the same over the agent's own HTTP/2: {await _many(own, server, 1)}")
    connection.close()


def main() -> None:
    """Start the server, measure, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        addresses = [f"127.0.0.1:{_free_port()}", f"unix:{Path(folder) / 'worker'}"]
        command = [sys.executable, "-m", "benchmarks.floors", *addresses]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            server.stdout.readline()
            try:
                uvloop.run(measure(addresses[0], addresses[1], psutil.Process(server.pid)))
            finally:
                server.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(sys.argv[1:]))
    else:
        main()
