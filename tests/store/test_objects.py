"""Large data: in bounded memory, linked or collected, and never linked once collected."""

import asyncio
import hashlib
from pathlib import Path

import psutil
import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from ripieno.objects import PIECE_BYTES
from ripieno.store.database import Database
from ripieno.store.objects import ObjectStore
from store.world import World, done, options, task, until_one_waits

MIB = 1024 * 1024


@pytest.fixture(params=["directory", "url"])
def objects(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> ObjectStore:
    place = tmp_path / "objects"
    place.mkdir()
    return ObjectStore(database, str(place) if request.param == "directory" else place.as_uri())


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "objects").rglob("*") if path.is_file())


async def write(objects: ObjectStore, *pieces: bytes) -> StoredObject:
    async with await objects.writer() as writer:
        for piece in pieces:
            await writer.write(piece)
    return writer.stored


async def abandon(objects: ObjectStore, pieces: list[bytes]) -> None:
    async with await objects.writer() as writer:
        for piece in pieces:
            await writer.write(piece)
        raise ValueError("the client went away")


async def read(objects: ObjectStore, stored: StoredObject) -> bytes:
    return b"".join([piece async for piece in objects.read(stored)])


async def age(database: Database, hours: float) -> None:
    """Let everything that was written be that old."""
    await database.fetch("update staged_objects set created_at = created_at - $1 * interval '1 hour'", hours)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
async def test_what_was_written_is_read(objects: ObjectStore, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    stored = await write(objects, *(data[at : at + 84_000] for at in range(0, size, 84_000)))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).digest())
    assert await read(objects, stored) == data


async def test_200_mib_in_bounded_memory(objects: ObjectStore) -> None:
    process = psutil.Process()
    chunk = bytes(84_000)
    await write(objects, *[chunk] * 200)
    before = most = process.memory_info().rss
    async with await objects.writer() as writer:
        for n in range(200 * MIB // len(chunk)):
            await writer.write(chunk)
            if n % 100 == 0:
                most = max(most, process.memory_info().rss)
    size = 0
    async for piece in objects.read(writer.stored):
        size += len(piece)
        assert len(piece) <= PIECE_BYTES
        most = max(most, process.memory_info().rss)
    assert size == writer.stored.size
    assert most - before < 64 * MIB


async def test_payload_and_result_by_way_of_the_object_store(world: World, objects: ObjectStore) -> None:
    payload, result = await write(objects, b"p" * MIB), await write(objects, b"r" * MIB)
    [claimed] = await world.begin(task("a", "ka", payload=payload))
    assert claimed.payload == payload
    await world.commit(done(claimed, {"ka": result}))
    assert await world.data("ka") == result
    assert await world.rows("select count(*) from staged_objects") == [(0,)]
    assert await objects.find(payload.name) == payload
    with pytest.raises(NotFoundError, match="holds no payload and no result"):
        await objects.find("no/such")


async def test_an_identical_large_submission_again(world: World, objects: ObjectStore) -> None:
    await world.submit(task("a", payload=await write(objects, b"p" * MIB)))
    await world.submit(task("a", payload=await write(objects, b"p" * MIB)))
    with pytest.raises(ConflictError):
        await world.submit(task("a", payload=await write(objects, b"q" * MIB)))


async def test_only_old_garbage_is_collected(world: World, objects: ObjectStore, tmp_path: Path) -> None:
    linked = await write(objects, b"linked")
    await world.submit(task("a", payload=linked))
    for _ in range(150):
        await write(objects, b"never linked")
    await age(world.database, 25)
    fresh = await write(objects, b"fresh")
    assert await objects.collect_garbage() == 150
    assert files(tmp_path) == sorted(Path(each.name).name for each in (linked, fresh))
    assert await objects.collect_garbage() == 0


async def test_an_abandoned_writer_leaves_nothing(database: Database, objects: ObjectStore, tmp_path: Path) -> None:
    for pieces in ([], [b"x"], [bytes(MIB)] * 3):
        with pytest.raises(ValueError, match="the client went away"):
            await abandon(objects, pieces)
    assert files(tmp_path) == []
    await write(objects, b"written but never linked")
    await age(database, 25)
    assert await objects.collect_garbage() == 4
    assert files(tmp_path) == []
    assert await database.fetch("select name from staged_objects") == []


async def test_what_a_running_attempt_may_have_written_is_kept(world: World, objects: ObjectStore) -> None:
    """A task that sends a large result early and runs on for days."""
    abandoned = await write(objects, b"older than any running attempt")
    await age(world.database, 1)
    [claimed] = await world.begin(task("a", "ka"))
    early = await write(objects, b"early")
    await age(world.database, 48)
    await world.database.fetch("update states set claimed_at = claimed_at - interval '48 hours'")
    assert await objects.collect_garbage() == 1
    with pytest.raises(UnavailableError):
        await read(objects, abandoned)
    await world.commit(done(claimed, {"ka": early}))
    assert await read(objects, early) == b"early"


async def test_what_was_collected_cannot_be_linked(world: World, objects: ObjectStore) -> None:
    stored = await write(objects, b"late")
    await age(world.database, 25)
    assert await objects.collect_garbage() == 1
    with pytest.raises(ConflictError, match="large data are gone"):
        await world.submit(task("a", payload=stored))


async def test_linking_waits_for_a_collection_under_way(world: World, objects: ObjectStore) -> None:
    stored = await write(objects, b"late")
    async with world.database.connection() as connection:
        await connection.execute("begin")
        await connection.execute("select from staged_objects for update")
        linking = asyncio.create_task(world.submit(task("a", payload=stored)))
        await until_one_waits(world)
        await connection.execute("delete from staged_objects; commit")
    with pytest.raises(ConflictError, match="large data are gone"):
        await linking


async def test_an_object_is_linked_once(world: World, objects: ObjectStore) -> None:
    stored = await write(objects, b"once")
    await world.submit(task("a", payload=stored), of=options())
    with pytest.raises(ConflictError, match="in use already"):
        await world.submit(task("b", payload=stored))


async def test_a_store_that_takes_nothing_says_so(database: Database, objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").write_text("in the way")
    with pytest.raises(UnavailableError, match="takes no data"):
        await write(objects, bytes(3 * MIB))
    with pytest.raises(UnavailableError, match="takes no data"):
        await write(objects, b"small")


async def test_a_lost_object_is_unavailable(objects: ObjectStore, tmp_path: Path) -> None:
    stored = await write(objects, b"lost")
    (tmp_path / "objects" / stored.name).unlink()
    with pytest.raises(UnavailableError, match="cannot be read"):
        await read(objects, stored)


async def test_a_url_that_nobody_understands(database: Database) -> None:
    with pytest.raises(InvalidRequestError, match="'gopher://x' cannot be opened as an object store"):
        ObjectStore(database, "gopher://x")
