"""Our end of HTTP/2 against servers of others, which are installed for the test: gRPC for Node, and grpclib on h2."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from ripieno.agent.transport.calls import Call
from ripieno.agent.transport.http2 import connect
from unit.agent.bare_peer import all_of

SERVERS = Path(__file__).parent / "servers"
GRPC_JS, GRPCLIB = "@grpc/grpc-js@1.13.4", "grpclib==0.4.9"
SIZES = [0, 1, 100, 16_384, 65_536, 3_000_000]

pytestmark = pytest.mark.long


def _node(folder: Path) -> list[str]:
    subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", GRPC_JS], cwd=folder, check=True)
    program = folder / "echo.js"
    program.write_text((SERVERS / "echo.js").read_text())
    return ["node", str(program)]


def _grpclib(folder: Path) -> list[str]:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), GRPCLIB]
    subprocess.run(install, check=True)
    return [sys.executable, str(SERVERS / "echo_grpclib.py"), str(folder)]


@contextmanager
def serving(command: list[str]) -> Iterator[str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.parametrize("install", [_node, _grpclib], ids=["grpc-js", "grpclib"])
async def test_messages_of_all_sizes_both_ways_at_once(tmp_path: Path, install: object) -> None:
    assert callable(install)
    with serving(install(tmp_path)) as address:
        connection = await connect(address)
        for _ in range(20):
            call = Call(connection, b"/Echo/Echo")
            sent = [bytes([size % 251]) * size for size in SIZES]

            async def write(call: Call = call, sent: list[bytes] = sent) -> None:
                for message in sent:
                    await call.write([message])
                call.half_close()

            async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                assert await all_of(call) == sent
            assert call.code is grpc.StatusCode.OK, call.status
        unknown = Call(connection, b"/Echo/Unknown")
        unknown.half_close()
        assert await all_of(unknown) == []
        assert unknown.code is grpc.StatusCode.UNIMPLEMENTED
        connection.close()
        await asyncio.sleep(0)
