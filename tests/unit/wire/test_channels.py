"""Channels: which servers they reach, and that no proxy sees it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ripieno.domain.addresses import Address, TcpAddress, UnixAddress
from ripieno.wire.channels import open_blocking_channel, open_channel, target_of

_WITHIN_S = 10.0
_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy", "all_proxy", "ALL_PROXY")


@asynccontextmanager
async def serving(address: Address) -> AsyncIterator[Address]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port(target_of(address))
    await server.start()
    try:
        yield TcpAddress(address.host, port) if isinstance(address, TcpAddress) else address
    finally:
        await server.stop(0)


async def _asks(address: Address) -> None:
    request = health_pb2.HealthCheckRequest()
    async with open_channel(address) as channel:
        await health_pb2_grpc.HealthStub(channel).Check(request, timeout=_WITHIN_S)

    def blocking() -> None:
        with open_blocking_channel(address) as channel:
            health_pb2_grpc.HealthStub(channel).Check(request, timeout=_WITHIN_S)

    await asyncio.to_thread(blocking)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_no_proxy_of_the_environment_is_asked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in _VARIABLES:
            monkeypatch.setenv(name, url)
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with serving(TcpAddress(host, 0)) as address:
            await _asks(address)
            # Not even when the proxy is wanted: this machine is never behind it.
            async with open_channel(address, use_proxy=True) as channel:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_WITHIN_S)
        assert not asked
        async with open_channel(TcpAddress("far.invalid", 1), use_proxy=True) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_WITHIN_S)
        assert asked and asked[0].startswith(b"CONNECT far.invalid:1")


@pytest.mark.parametrize(
    "name",
    ["a b", "feature%2Flogin", "100%", "C#", "what?", "Jörg", "a@b:c", "x&y=z+1", "[1]", "back\\slash", "~", "\udce9"],
)
async def test_a_socket_may_lie_below_any_path(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    address = UnixAddress(str(place / "s"))
    async with serving(address):
        assert Path(address.path).is_socket()
        await _asks(address)
