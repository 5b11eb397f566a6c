"""A worker whose server refuses calls: asked a few times with pauses, and its attempt given back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from unit.agent.bare_peer import ACK, HEADERS, PING, RST_STREAM, SETTINGS, Peer
from unit.agent.replica import Replica, Task
from unit.agent.running import agent

UNIMPLEMENTED, REFUSED_STREAM = "12", 7


class Refuser:
    """Serves nothing but the knowledge that it is a worker without health and without batches.

    Attributes:
        refused: When calls of Process were refused.
    """

    def __init__(self) -> None:
        self.refused: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await peer.greet()
            while True:
                kind, flags, stream, payload = await peer.frame()
                if kind == HEADERS:
                    self._answer(peer, stream, {str(name): str(value) for name, value in peer.decoder.decode(payload)})
                elif kind in (PING, SETTINGS) and not flags & ACK:
                    peer.send(kind, ACK, 0, payload if kind == PING else b"")
        writer.close()

    def _answer(self, peer: Peer, stream: int, headers: dict[str, str]) -> None:
        if headers[":path"].endswith("Worker/Process") and "BatchWorker" not in headers[":path"]:
            self.refused.append(time.monotonic())
            peer.send(RST_STREAM, 0, stream, REFUSED_STREAM.to_bytes(4))
        else:
            status = (("content-type", "application/grpc"), ("grpc-status", UNIMPLEMENTED))
            peer.send_headers(stream, (":status", "200"), *status, end=True)


@pytest.fixture
async def refuser(tmp_path: Path) -> AsyncIterator[tuple[Refuser, str]]:
    refuser = Refuser()
    server = await asyncio.start_unix_server(refuser.serve, tmp_path / "worker")
    yield refuser, f"unix:{tmp_path / 'worker'}"
    server.close()


async def test_refused_calls_are_few_and_use_no_attempt_up(replica: Replica, refuser: tuple[Refuser, str]) -> None:
    worker, address = refuser
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t"))
        async with asyncio.timeout(20):
            while len(worker.refused) < 3:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        first, second, third = worker.refused[:3]
        assert second - first >= 0.04
        assert third - second >= 0.2
        await asyncio.sleep(1)
        assert len(worker.refused) <= 15
    assert not any(outcome.HasField("failed") for outcomes in replica.outcomes.values() for outcome in outcomes)
