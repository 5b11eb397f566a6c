"""The bytes of large results: read where they lie or sent, whole and once, whatever breaks on the way."""

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path, PosixPath
from typing import Any

import grpc
import pytest
import pytest_asyncio

from ripieno.client import (
    AsyncClient,
    AsyncSession,
    Client,
    InvariantError,
    NotFoundError,
    TaskFailedError,
    UnavailableError,
)
from ripieno.client.connection import object_files as objects
from ripieno.client.reading import fetching
from ripieno.client.reading.fetching import Wanted, save
from ripieno.domain.data import StoredObject
from unit.client.cluster import CHUNK_BYTES, FakeCluster, failure

LARGE = bytes(range(256)) * 40  # 10 KiB: ten chunks and a bit
CHUNKS = -(-len(LARGE) // CHUNK_BYTES)


@pytest_asyncio.fixture
async def session(client: AsyncClient, cluster: FakeCluster) -> AsyncSession:
    """With a large result ``large``."""
    session = await client.session(id="s")
    cluster.results["s", "large"] = LARGE
    return session


@pytest.fixture(params=["read", "streamed"])
def method(request: pytest.FixtureRequest, cluster: FakeCluster) -> str:
    """How the cluster sends bytes."""
    if request.param == "read":
        return "Read"
    cluster.reads = False
    return "TryGetResultStream"


@pytest.fixture
def here(cluster: FakeCluster, tmp_path: Path) -> Path:
    """The directory of objects, which the client has before it."""
    directory = tmp_path / "objects"
    directory.mkdir()
    cluster.offer(directory)
    return directory


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pieces of so many bytes rather than a MiB."""
    size = 3 * CHUNK_BYTES
    monkeypatch.setattr(fetching, "_PIECE_BYTES", size)
    monkeypatch.setattr(objects, "PIECE_BYTES", size)
    return size


# ---------------------------------------------------------------- sent


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("cuts", [[3, 0, 7], [0, 0], [CHUNKS - 1], list(range(CHUNKS))], ids=str)
async def test_a_stream_that_breaks_goes_on_where_it_was(
    cluster: FakeCluster, session: AsyncSession, method: str, cuts: list[int]
) -> None:
    cluster.faults.cut_streams_after[method] = list(cuts)
    assert await session.result("large", timeout=20) == LARGE
    assert cluster.calls[method] > 1


async def test_what_was_read_is_not_read_again(cluster: FakeCluster, session: AsyncSession) -> None:
    cluster.faults.cut_streams_after["Read"] = [3, 0, 7]
    pieces = [piece async for piece in session.result_chunks("large", timeout=5)]
    assert b"".join(pieces) == LARGE
    assert cluster.read == [(["large"], offset) for offset in (0, 3_000, 3_000, 10_000)]


async def test_a_stream_that_ends_early_as_if_all_were_well(cluster: FakeCluster, session: AsyncSession) -> None:
    cluster.faults.end_streams_after["Read"] = [4, 0, 2]
    assert await session.result("large", timeout=5) == LARGE
    assert [offset for _, offset in cluster.read] == [0, 4_000, 4_000, 6_000]


async def test_a_server_that_always_ends_early_is_given_up_after_pauses(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.address, patience=0.2) as client:
        session = await client.session(id="s")
        cluster.results["s", "large"] = LARGE
        cluster.faults.end_streams_after["Read"] = [0] * 1_000
        with pytest.raises(UnavailableError, match=r"could not fetch a result: .*it ended result 'large' early"):
            await session.result("large")
    assert cluster.calls["Read"] < 20


@pytest.mark.parametrize("cut", [None, 0, CHUNKS - 1, CHUNKS, CHUNKS + 5, 2 * CHUNKS, 2 * CHUNKS + 1])
async def test_several_results_come_by_one_call(cluster: FakeCluster, session: AsyncSession, cut: int | None) -> None:
    """Cut anywhere, also exactly between two of them."""
    contents = {"a": LARGE, "b": LARGE[::-1], "empty": b"", "c": LARGE[1:]}
    cluster.results |= {("s", key): data for key, data in contents.items()}
    if cut is not None:
        cluster.faults.cut_streams_after["Read"] = [cut]
    connection = session._connection
    fetched = [data async for data in fetching.fetch_all(connection, "s", [Wanted(key) for key in contents])]
    assert fetched == list(contents.values())
    assert cluster.calls["Read"] == (1 if cut is None else 2)


async def test_calls_name_a_bounded_number_of_results(
    cluster: FakeCluster, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_KEYS_A_CALL", 2)
    cluster.results |= {("s", f"k{n}"): b"%d" % n for n in range(5)}
    wanted = [Wanted(f"k{n}") for n in range(5)]
    assert [data async for data in fetching.fetch_all(session._connection, "s", wanted)] == [
        b"%d" % n for n in range(5)
    ]
    assert [keys for keys, _ in cluster.read] == [["k0", "k1"], ["k2", "k3"], ["k4"]]


async def test_an_aborted_one_among_several(cluster: FakeCluster, session: AsyncSession, method: str) -> None:
    del method
    cluster.results |= {("s", "a"): LARGE, ("s", "bad"): failure("t", "no luck"), ("s", "c"): LARGE}
    fetched = fetching.fetch_all(session._connection, "s", [Wanted("a"), Wanted("bad"), Wanted("c")])
    assert await anext(fetched) == LARGE
    with pytest.raises(TaskFailedError, match="result 'bad' will never exist: task 't' ended after ERROR: no luck"):
        await anext(fetched)


async def test_an_unknown_key(cluster: FakeCluster, session: AsyncSession, method: str) -> None:
    del cluster, method
    with pytest.raises(NotFoundError, match="no result 'nothing'"):
        await fetching.fetch(session._connection, "s", Wanted("nothing"))


async def test_an_error_that_no_retry_mends(cluster: FakeCluster, session: AsyncSession, method: str) -> None:
    cluster.faults.before[method] = [grpc.StatusCode.INTERNAL]
    with pytest.raises(InvariantError, match="injected INTERNAL"):
        await session.result("large", timeout=5)


async def test_a_stream_that_breaks_when_all_is_here(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.address, patience=0) as client:
        session = await client.session(id="s")
        cluster.results["s", "large"] = LARGE
        cluster.faults.after["Read"] = [grpc.StatusCode.UNAVAILABLE] * 2
        assert await session.result("large", timeout=5) == LARGE
        assert b"".join([piece async for piece in session.result_chunks("large", timeout=5)]) == LARGE
    assert cluster.calls["Read"] == 2


async def test_a_server_that_cannot_read_is_asked_once(cluster: FakeCluster, session: AsyncSession) -> None:
    cluster.reads = False
    for _ in range(2):
        assert await session.result("large", timeout=5) == LARGE
    assert (cluster.calls["Read"], cluster.calls["TryGetResultStream"]) == (1, 2)


async def test_many_find_out_at_once_that_the_server_cannot_read(cluster: FakeCluster, session: AsyncSession) -> None:
    cluster.reads = False
    async with asyncio.TaskGroup() as group:
        fetches = [group.create_task(session.result("large", timeout=5)) for _ in range(50)]
    assert [fetch.result() for fetch in fetches] == [LARGE] * 50


async def test_whoever_stops_reading_ends_the_call(cluster: FakeCluster, session: AsyncSession, method: str) -> None:
    """And so does a time limit in the middle of the stream."""
    cluster.results["s", "large"] = bytes(20_000_000)
    chunks = session.result_chunks("large", timeout=5)
    await anext(chunks)
    await chunks.aclose()
    await cluster.until(lambda: cluster.sent_whole[method] + cluster.cut_short[method] == 1)
    assert cluster.cut_short[method] == 1


# ---------------------------------------------------------------- read in place


async def results_in(session: AsyncSession) -> bytes:
    (result,) = [result async for result in session.results(["large"], timeout=5)]
    return result.data


async def chunks_in(session: AsyncSession) -> bytes:
    return b"".join([piece async for piece in session.result_chunks("large", timeout=5)])


async def download_in(session: AsyncSession, path: Path) -> bytes:
    assert await session.download("large", path, timeout=5) == len(LARGE)
    return path.read_bytes()


@pytest.fixture(params=["result", "results", "result_chunks", "download"])
def ask(request: pytest.FixtureRequest, session: AsyncSession, tmp_path: Path) -> Callable[[], Awaitable[bytes]]:
    """Each way to ask for a result."""
    ways: dict[str, Callable[[], Awaitable[bytes]]] = {
        "result": lambda: session.result("large", timeout=5),
        "results": lambda: results_in(session),
        "result_chunks": lambda: chunks_in(session),
        "download": lambda: download_in(session, tmp_path / "downloaded"),
    }
    return ways[request.param]


@pytest.mark.usefixtures("here", "small_pieces")
async def test_what_lies_here_is_not_sent(cluster: FakeCluster, ask: Callable[[], Awaitable[bytes]]) -> None:
    assert await ask() == LARGE
    assert cluster.calls["Read"] == cluster.calls["TryGetResultStream"] == 0


@pytest.mark.usefixtures("here", "small_pieces")
async def test_it_is_read_in_pieces(session: AsyncSession, small_pieces: int) -> None:
    sizes = [len(piece) async for piece in session.result_chunks("large", timeout=5)]
    assert sizes == [small_pieces] * 3 + [len(LARGE) - 3 * small_pieces]


async def test_an_empty_object(cluster: FakeCluster, session: AsyncSession, here: Path) -> None:
    (here / "nothing").touch()
    connection = session._connection
    await session.result("large")  # by now the client knows the directory
    empty = Wanted("none", StoredObject("nothing", 0, b""))
    assert await fetching.fetch(connection, "s", empty) == b""
    assert [data async for data in fetching.fetch_all(connection, "s", [empty] * 3)] == [b""] * 3
    assert cluster.calls["Read"] == 0


async def test_it_stays_with_what_is_before_it(cluster: FakeCluster, session: AsyncSession, here: Path) -> None:
    """A file that is longer than its object is said to be."""
    cluster.lay("s", "large").write_bytes(LARGE + b"more")
    assert await session.result("large", timeout=5) == LARGE
    assert here.is_dir()


@pytest.mark.parametrize("file", ["another proof", None, "no text"])
async def test_another_directory_of_that_name(
    cluster: FakeCluster, session: AsyncSession, here: Path, ask: Callable[[], Awaitable[bytes]], file: str | None
) -> None:
    (here / "proof").write_bytes(b"\xff" if file == "no text" else (file or "").encode())
    if file is None:
        (here / "proof").unlink()
    cluster.lay("s", "large").write_bytes(bytes(len(LARGE)))  # must not be looked at
    assert await ask() == LARGE
    assert cluster.calls["Read"] == 1


async def test_the_directory_of_a_replica_that_came_after(
    cluster: FakeCluster, session: AsyncSession, here: Path
) -> None:
    (here / "proof").write_text("of another one")
    assert await session.result("large", timeout=5) == LARGE
    assert cluster.calls["Read"] == 1
    cluster.offer(here, "made anew")
    assert await session.result("large", timeout=5) == LARGE
    assert cluster.calls["Read"] == 1


def _gone(path: Path) -> None:
    path.unlink()


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _short(path: Path) -> None:
    path.write_bytes(LARGE[:-1])


@pytest.mark.usefixtures("here", "small_pieces")
@pytest.mark.parametrize("spoil", [_gone, _a_folder, _empty, _short])
async def test_what_cannot_be_read_here_is_sent_instead(
    cluster: FakeCluster,
    ask: Callable[[], Awaitable[bytes]],
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(cluster.lay("s", "large"))
    with caplog.at_level(logging.WARNING, "ripieno.client"):
        assert await ask() == LARGE
    assert cluster.calls["Read"] == 1
    (record,) = caplog.records
    assert "result 'large' cannot be read in place" in record.getMessage()


@pytest.mark.usefixtures("here", "small_pieces")
@pytest.mark.parametrize("spoil", [_gone, _a_folder, _empty])
async def test_what_breaks_off_here_is_sent_from_there_on(
    cluster: FakeCluster, session: AsyncSession, small_pieces: int, method: str, spoil: Callable[[Path], None]
) -> None:
    path = cluster.lay("s", "large")
    chunks = session.result_chunks("large", timeout=5)
    pieces = [await anext(chunks)]
    spoil(path)
    cluster.faults.cut_streams_after[method] = [2]
    pieces += [piece async for piece in chunks]
    assert b"".join(pieces) == LARGE
    if method == "Read":
        assert cluster.read == [(["large"], small_pieces), (["large"], small_pieces + 2 * CHUNK_BYTES)]


async def test_once_one_cannot_be_read_here_all_are_sent(
    cluster: FakeCluster, session: AsyncSession, here: Path
) -> None:
    keys = [f"k{n}" for n in range(10)]
    cluster.results |= {("s", key): LARGE + key.encode() for key in keys}
    for key in keys[3:4]:
        cluster.lay("s", key).unlink()
    got = {result.key: result.data async for result in session.results(keys, timeout=5)}
    assert got == {key: LARGE + key.encode() for key in keys}
    assert cluster.read == [(keys[3:], 0)]
    assert here.is_dir()


@pytest.mark.usefixtures("here")
async def test_the_blocking_client_reads_in_place_too(cluster: FakeCluster, tmp_path: Path) -> None:
    def program() -> None:
        with Client(cluster.address, patience=5) as client:
            session = client.session(id="s")
            cluster.results["s", "large"] = LARGE
            assert session.result("large", timeout=5) == LARGE
            assert b"".join(session.result_chunks("large", timeout=5)) == LARGE
            assert [result.data for result in session.results(["large"], timeout=5)] == [LARGE]
            assert session.download("large", tmp_path / "downloaded", timeout=5) == len(LARGE)

    await asyncio.to_thread(program)
    assert (tmp_path / "downloaded").read_bytes() == LARGE
    assert cluster.calls["Read"] == cluster.calls["TryGetResultStream"] == 0


@pytest.mark.usefixtures("here")
async def test_a_caller_that_gives_up_while_a_file_is_read(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on for a moment; it must not be left with a file that nobody closes, or that is closed."""
    loop = asyncio.get_running_loop()
    reading, go_on, closed = asyncio.Event(), threading.Event(), asyncio.Event()
    read = objects._read

    def slow(path: Path, offset: int, size: int) -> bytes:
        loop.call_soon_threadsafe(reading.set)
        go_on.wait(5)
        data = read(path, offset, size)
        loop.call_soon_threadsafe(closed.set)
        return data

    monkeypatch.setattr(objects, "_read", slow)
    fetch = asyncio.create_task(session.result("large", timeout=5))
    async with asyncio.timeout(5):
        await reading.wait()
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        go_on.set()
        await closed.wait()
    gc.collect()  # an unclosed file would warn


async def test_a_caller_that_gives_up_while_its_file_is_opened(tmp_path: Path) -> None:
    """The thread goes on for a moment; what it opens must be closed, and not be left."""
    loop = asyncio.get_running_loop()
    opening, go_on, opened = asyncio.Event(), threading.Event(), asyncio.Event()

    class SlowPath(PosixPath):
        def open(self, *how: Any, **more: Any) -> Any:
            loop.call_soon_threadsafe(opening.set)
            go_on.wait(5)
            file = super().open(*how, **more)
            loop.call_soon_threadsafe(opened.set)
            return file

    async def nothing() -> AsyncIterator[bytes]:
        for _ in range(0):
            yield b""

    saving = asyncio.create_task(save(nothing(), SlowPath(tmp_path / "file")))
    async with asyncio.timeout(5):
        await opening.wait()
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        go_on.set()
        await opened.wait()
        while list(tmp_path.iterdir()):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.002)
    gc.collect()  # an unclosed file would warn


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("offset", [0, 1, 2_999, 3_000, 3_001, len(LARGE) - 1, len(LARGE)])
async def test_a_file_from_an_offset_on(tmp_path: Path, offset: int) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    pieces = [piece async for piece in objects.read_file(tmp_path / "file", len(LARGE), offset)]
    assert pieces and b"".join(pieces) == LARGE[offset:]
