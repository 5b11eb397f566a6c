"""Large data by way of our own worker and client, with an object store that they have before them and one that they have not.

A directory is written and read where it is. The URL of the same directory is nobody's but the
control plane's, so everything is sent.
"""

import asyncio
import hashlib
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.cluster import running
from protocol.messages import pattern, unique
from ripieno.client import AsyncClient, TaskDefinition

MIB = 1024 * 1024
_WORKER = shlex.join([sys.executable, "-m", "ripieno", "worker", "protocol.handlers:joined"])
_WITHIN_S = 60.0


@pytest.mark.parametrize("kind", ["directory", "url"])
async def test_large_data_of_every_kind(database_url: str, tmp_path: Path, kind: str) -> None:
    """A payload, a result and a dependency of several MiB each."""
    place = tmp_path / "objects"
    place.mkdir()
    objects = str(place) if kind == "directory" else place.as_uri()
    payload, added = pattern(2 * MIB + 1), pattern(MIB + 7)
    async with (
        running("control", "--database", database_url, "--listen", "127.0.0.1:0", "--objects", objects) as control,
        running("agent", "--control", control.address, "--slots", "2", "--worker", _WORKER),
        AsyncClient(control.address) as client,
    ):
        session = await client.session(max_retries=0, max_duration=_WITHIN_S)
        reads = _counted(client)
        first, second = unique("first"), unique("second")
        tasks = await session.submit_many(
            [TaskDefinition(payload, first, id=first), TaskDefinition(added, second, [first], second)]
        )
        expected = {first: payload, second: added + b"|" + first.encode() + b"=" + payload}

        got = {one.key: one.data async for one in session.results(tasks, timeout=_WITHIN_S)}
        assert _digests(got) == _digests(expected)
        target = tmp_path / "downloaded"
        assert await session.download(second, target, timeout=_WITHIN_S) == len(expected[second])
        whole = await asyncio.to_thread(target.read_bytes)
        assert _digests({second: whole}) == _digests({second: expected[second]})
    assert bool(reads) == (kind == "url")
    # Two payloads and two results, each once.
    assert sorted(_sizes(place)) == sorted(map(len, [payload, added, *expected.values()]))


def _counted(client: AsyncClient) -> list[Any]:
    """The requests of Results.Read from now on."""
    assert client._connection is not None
    stub: Any = client._connection.results
    requests, read = list[Any](), stub.Read

    def counting(request: Any) -> Any:
        requests.append(request)
        return read(request)

    stub.Read = counting
    return requests


def _sizes(place: Path) -> list[int]:
    """Of all objects below a directory; marks and proofs lie in it itself."""
    return [path.stat().st_size for path in place.glob("*/*")]


def _digests(contents: dict[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(data).hexdigest() for key, data in contents.items()}
