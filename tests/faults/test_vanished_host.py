"""A host that vanishes behind a TCP connection, and one whose process merely takes nothing: told apart by the kernel.

The host is a network namespace of its own whose link is cut, which takes the rights of root.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc
import pytest

from ripieno.agent.transport.calls import Call
from ripieno.agent.transport.http2 import connect
from ripieno.domain.addresses import TcpAddress
from ripieno.wire.channels import open_channel
from unit.agent.replica import Replica, Task
from unit.agent.running import agent

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="cutting a host's link takes root and the program ip"
)

#: Greets, allows to send a GiB, and reads nothing.
PEER = r"""
import socket, time
listener = socket.create_server(("{address}", 7000))
print("ready", flush=True)
connected, _ = listener.accept()
much = (2**30).to_bytes(4, "big")
connected.sendall(b"\0\0\6\4\0\0\0\0\0\0\4" + much + b"\0\0\0\4\1\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\0" + much)
time.sleep(1000)
"""

#: A server of gRPC that takes every call and answers none.
SILENT_SERVER = r"""
import grpc, threading, time
from concurrent.futures import ThreadPoolExecutor
class Any(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: time.sleep(1000))
options = [("grpc.http2.min_ping_interval_without_data_ms", 1000), ("grpc.http2.max_ping_strikes", 0)]
server = grpc.server(ThreadPoolExecutor(4), handlers=[Any()], options=options)
server.add_insecure_port("{address}:7000")
server.start()
print("ready", flush=True)
time.sleep(1000)
"""

#: A worker of our SDK, with the batch lane or as one of another make; an agent on another host is attached to it.
WORKER = r"""
import sys, time
sys.path[:0] = {path}
from ripieno.worker import serve
def handle(task):
    time.sleep(float(task.payload))
    return b"slept"
serve(handle, "{address}:7000", lambda address: print("ready", flush=True), batch={batch})
"""

#: What a busy machine may add to ten seconds.
BUSY_S = 5

_NUMBERS = count()


class Host:
    """Another host, as far as the kernel is concerned."""

    def __init__(self) -> None:
        number = (os.getpid() * 8 + next(_NUMBERS)) % 16_000
        self.name, self.near, self.far = f"host{number}", f"n{number}", f"f{number}"
        third, fourth = divmod(4 * number, 256)
        self.ours, self.address = f"10.213.{third}.{fourth + 1}", f"10.213.{third}.{fourth + 2}"

    def up(self) -> None:
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.name)
        self._ip("addr", "add", f"{self.ours}/30", "dev", self.near)
        self._ip("link", "set", self.near, "up")
        self._ip("-n", self.name, "addr", "add", f"{self.address}/30", "dev", self.far)
        self._ip("-n", self.name, "link", "set", self.far, "up")

    def cut(self) -> None:
        self._ip("-n", self.name, "link", "set", self.far, "down")

    def mend(self) -> None:
        self._ip("-n", self.name, "link", "set", self.far, "up")

    def down(self) -> None:
        self._ip("netns", "del", self.name)

    def serve(self, program: str) -> subprocess.Popen[bytes]:
        program = program.replace("{address}", self.address)
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", program]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    host.up()
    yield host
    host.down()


@asynccontextmanager
async def called(host: Host) -> AsyncIterator[Call]:
    process = host.serve(PEER)
    connection = await connect(f"{host.address}:7000")
    try:
        call = Call(connection, b"/a.Service/Method")
        await call.write([b"x"])
        await asyncio.sleep(0.5)  # its settings are here
        yield call
    finally:
        connection.close()
        process.kill()
        with process:
            pass


@pytest.mark.parametrize("sends", [False, True], ids=["waiting", "sending"])
async def test_a_host_that_vanished_is_noticed_within_ten_seconds(host: Host, sends: bool) -> None:
    async with called(host) as call:
        host.cut()
        began = time.monotonic()
        if sends:
            await call.write([b"into the void"])
        async with asyncio.timeout(20):
            assert await call.read() == []
        assert time.monotonic() - began < 10 + BUSY_S
        assert call.code is grpc.StatusCode.UNAVAILABLE
        assert "nothing comes from its host any more" in call.details


async def test_a_peer_that_takes_nothing_is_not_given_up(host: Host) -> None:
    """Its host acknowledges all the same: a stopped process, or a full one."""
    async with called(host) as call:
        writing = asyncio.create_task(call.write([bytes(60_000_000)]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(15):
                await call.read()
        assert call.code is None
        assert not writing.done()
        writing.cancel()


async def test_calls_to_a_host_that_vanished_end_within_ten_seconds(host: Host) -> None:
    process = host.serve(SILENT_SERVER)
    try:
        async with open_channel(TcpAddress(host.address, 7000)) as channel:
            method: Any = channel.unary_unary("/a.Service/Method")
            call = method(b"")
            await channel.channel_ready()
            with pytest.raises(TimeoutError):
                # Longer than what passes for silence: as long as its host answers, the call waits.
                async with asyncio.timeout(12):
                    await asyncio.shield(call.code())
            host.cut()
            began = time.monotonic()
            async with asyncio.timeout(30):
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - began < 10 + BUSY_S
    finally:
        process.kill()
        with process:
            pass


@pytest.mark.parametrize("batch", [False, True], ids=["process", "batch"])
async def test_a_worker_whose_host_vanished_is_a_free_slot_again_once_it_is_back(host: Host, batch: bool) -> None:
    replica = Replica()
    await replica.start()
    process = host.serve(WORKER.replace("{path}", repr(sys.path)).replace("{batch}", repr(batch)))
    try:
        async with agent(replica, attach=(f"{host.address}:7000",)):
            replica.submit(Task("before", payload=b"0"))
            await replica.outcome_of("before", 30)
            # Longer than it takes to notice: a handler that sleeps is not interrupted by the end of its caller.
            replica.submit(Task("cut", payload=b"16", max_duration_s=2_000))
            await replica.until(lambda: "cut" in replica.assigned)
            await asyncio.sleep(0.5)  # its worker has it
            host.cut()
            began = time.monotonic()
            lost = await replica.outcome_of("cut", 30)
            assert lost.HasField("failed")
            assert time.monotonic() - began < 10 + BUSY_S
            replica.submit(Task("after", payload=b"0"))
            host.mend()
            assert (await replica.outcome_of("after", 40)).HasField("completed")
    finally:
        process.kill()
        with process:
            pass
        await replica.stop()
