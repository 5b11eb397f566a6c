"""Large data on an agent's disk: what is in use is there, and what nobody uses makes room."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ripieno.agent.attempts.attempt import Spooled
from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.data import spool as spool_module
from ripieno.agent.data.disk import Scratch
from ripieno.agent.data.spool import Spool
from ripieno.agent.uplink.link import Link
from ripieno.domain.data import StoredObject
from unit.agent.replica import Replica

DATA = b"data" * 1_000


def stored(name: str) -> StoredObject:
    return StoredObject(name, len(DATA), hashlib.sha256(DATA).digest())


@pytest_asyncio.fixture
async def spool(replica: Replica, tmp_path: Path) -> AsyncIterator[Spool]:
    replica.objects = {"a": DATA, "b": DATA}
    link = Link()
    link.connected(replica.address, Limits(), None)
    yield Spool(Scratch(tmp_path, lambda fit: None), link)
    await link.close()


async def test_a_file_that_makes_room_while_it_is_opened_is_read_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "IDLE_BYTES", len(DATA))
    is_whole, loop, looked, go_on = (
        spool_module._is_whole,
        asyncio.get_running_loop(),
        asyncio.Event(),
        threading.Event(),
    )

    def held_up(file: Spooled) -> bool:
        whole = is_whole(file)
        loop.call_soon_threadsafe(looked.set)
        assert go_on.wait(10)
        return whole

    first, other = await spool.open(stored("a")), await spool.open(stored("b"))
    spool.close(first, keep=True)
    monkeypatch.setattr(spool_module, "_is_whole", held_up)
    opening = asyncio.create_task(spool.open(stored("a")))
    await looked.wait()
    spool.close(other, keep=True)  # more than may lie idle: the older one goes
    go_on.set()
    again = await opening
    assert again.path.read_bytes() == DATA
    assert again.users == 1
