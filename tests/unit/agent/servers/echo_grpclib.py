"""Echoes messages over grpclib, which is pure Python on h2; prints the port when it serves."""

import asyncio
import socket
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

from grpclib.const import Cardinality, Handler  # type: ignore[import-not-found]
from grpclib.encoding.base import CodecBase  # type: ignore[import-not-found]
from grpclib.server import Server  # type: ignore[import-not-found]


class Raw(CodecBase):  # type: ignore[misc]
    """Bytes as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: type) -> bytes:
        return message

    def decode(self, data: bytes, message_type: type) -> bytes:
        return data


class Echo:
    async def echo(self, stream: Any) -> None:
        async for message in stream:
            await stream.send_message(message)

    def __mapping__(self) -> dict[str, Any]:
        return {"/Echo/Echo": Handler(self.echo, Cardinality.STREAM_STREAM, bytes, bytes)}


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server([Echo()], codec=Raw())
    await server.start("127.0.0.1", port)
    print(port, flush=True)
    await server.wait_closed()


asyncio.run(main())
