"""Large data: in bounded memory, linked or collected, and never linked once collected."""

import asyncio
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from ripieno.objects import PIECE_BYTES, is_readable, is_writable
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from store.world import World, done, options, task, until_one_waits

MIB = 1024 * 1024


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


@pytest.mark.parametrize("left", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1])
async def test_an_object_that_has_lost_its_end_is_unavailable(objects: ObjectStore, tmp_path: Path, left: int) -> None:
    """What is there comes, but is never taken for all of it."""
    stored = await write(objects, bytes(2 * PIECE_BYTES + 2))
    os.truncate(tmp_path / "objects" / stored.name, left)
    with pytest.raises(UnavailableError, match=r"ends early|cannot be read"):
        await read(objects, stored)


@pytest.mark.parametrize("offset", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 7])
async def test_an_object_from_an_offset_on(objects: ObjectStore, offset: int) -> None:
    data = bytes(range(251)) * (2 * PIECE_BYTES // 251) + bytes(range(251))
    stored = await write(objects, data)
    pieces = [piece async for piece in objects.read(stored, offset)]
    assert b"".join(pieces) == data[offset:]
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert [piece async for piece in objects.read(stored, len(data))] == []


# ------------------------------------------------------------------ written by others


async def test_staged_names_are_garbage_until_something_links_to_them(world: World, objects: ObjectStore) -> None:
    names = await objects.stage(300)
    assert len(set(names)) == 300
    assert await objects.stage(0) == []
    assert {name for (name,) in await world.rows("select name from staged_objects")} == set(names)
    await world.submit(task("a", payload=StoredObject(names[0], 9, b"digest")))
    await age(world.database, 25)
    assert await objects.collect_garbage() == 299
    assert await objects.find(names[0]) == StoredObject(names[0], 9, b"digest")


async def test_garbage_has_an_hour_of_margin(world: World, objects: ObjectStore) -> None:
    """An agent may hold a name for a while before it begins the attempt that uses it."""
    [too_early] = await objects.stage(1)
    await age(world.database, 0.1)
    [early] = await objects.stage(1)
    await age(world.database, 0.95)
    await world.begin(task("a", "ka"))
    await age(world.database, 48)
    await world.database.fetch("update states set claimed_at = claimed_at - interval '48 hours'")
    assert await objects.collect_garbage() == 1
    assert await world.rows("select name from staged_objects") == [(early,)]
    assert too_early != early


def proofs(tmp_path: Path) -> list[str]:
    return [name for name in files(tmp_path) if name.startswith("proof-")]


def test_a_directory_is_proven(database: Database, tmp_path: Path) -> None:
    objects = ObjectStore(database, str(tmp_path / "objects"))
    before = objects.proven
    objects.prove("127.0.0.1:5001")
    proven = objects.proven
    assert before is None and proven is not None
    assert (proven.path, [proven.proof_file]) == (str(tmp_path / "objects"), proofs(tmp_path))
    assert is_readable(proven) and is_writable(proven)
    assert not is_readable(replace(proven, proof="guessed"))
    assert not is_readable(replace(proven, path=str(tmp_path)))
    assert len([path for path in (tmp_path / "objects").iterdir() if path.is_dir()]) == 256


def test_each_replica_has_a_proof_of_its_own(database: Database, tmp_path: Path) -> None:
    """One after a restart too, in the place of the former."""
    stores = [ObjectStore(database, str(tmp_path / "objects")) for _ in range(3)]
    for objects, address in zip(stores, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"], strict=True):
        objects.prove(address)
    before, other, after = (objects.proven for objects in stores)
    assert before and other and after
    assert proofs(tmp_path) == sorted([before.proof_file, other.proof_file])
    assert before.proof_file == after.proof_file
    assert [is_readable(each) for each in (before, other, after)] == [False, True, True]
    stores[2].prove("127.0.0.1:1")
    assert len(proofs(tmp_path)) == 2
    assert stores[2].proven and is_readable(stores[2].proven) and not is_readable(after)


def test_a_url_is_nothing_to_prove(database: Database, tmp_path: Path) -> None:
    objects = ObjectStore(database, tmp_path.as_uri())
    objects.prove("127.0.0.1:5001")
    assert objects.proven is None
    assert files(tmp_path) == []


async def test_a_url_that_nobody_understands(database: Database) -> None:
    with pytest.raises(InvalidRequestError, match="'gopher://x' cannot be opened as an object store"):
        ObjectStore(database, "gopher://x")
