"""Uploads that are under way: their parts, who may continue them, and what becomes of those that nobody does."""

from uuid import uuid4

import pytest

from ripieno.domain.data import StoredObject
from ripieno.domain.errors import ConflictError, NotFoundError
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.results.uploads import UnderWay, end_upload, find_upload, forget_uploads, note_part
from store.world import World

OLD = "update uploads set began_at = now() - interval '23 hours 1 minute'"
OLDER = "update uploads set began_at = now() - interval '25 hours'"


async def written(objects: ObjectStore, data: bytes) -> StoredObject:
    """An object that is staged and durable."""
    async with await objects.writer() as writer:
        await writer.write(data)
    return writer.stored


async def test_an_upload_is_what_was_noted_of_it(world: World, objects: ObjectStore) -> None:
    upload = UnderWay(uuid4(), await world.number(), "k")
    with pytest.raises(NotFoundError, match="there is no upload"):
        await find_upload(world.database, upload.upload_id)
    for data in (b"first", b"second"):
        await note_part(world.database, upload, await written(objects, data))
    found = await find_upload(world.database, upload.upload_id)
    assert (found.session_no, found.key, found.offset) == (upload.session_no, "k", 11)
    assert b"".join([piece for part in found.parts async for piece in objects.read(part)]) == b"firstsecond"


async def test_two_streams_cannot_both_bring_the_next_part(world: World, objects: ObjectStore) -> None:
    one = UnderWay(uuid4(), await world.number(), "k")
    await note_part(world.database, one, await written(objects, b"first"))
    other = await find_upload(world.database, one.upload_id)
    await note_part(world.database, one, await written(objects, b"second of one"))
    with pytest.raises(ConflictError, match="is continued by another stream"):
        await note_part(world.database, other, await written(objects, b"second of the other"))
    assert (await find_upload(world.database, one.upload_id)).offset == one.offset == 18


async def test_what_is_ended_is_deleted_at_once(world: World, objects: ObjectStore) -> None:
    upload = UnderWay(uuid4(), await world.number(), "k")
    part = await written(objects, b"first")
    await note_part(world.database, upload, part)
    names = await end_upload(world.database, upload.upload_id)
    assert names == [part.name]
    await objects.discard([*names, "never/there"])
    assert await world.rows("select name from staged_objects") == []
    with pytest.raises(NotFoundError, match="does not exist in the object store"):
        await objects.measure(part.name)


async def test_what_is_linked_is_not_discarded(world: World, objects: ObjectStore) -> None:
    kept = await written(objects, b"kept")
    await world.database.fetch("delete from staged_objects")  # as linking does
    await objects.discard([kept.name])
    assert await objects.measure(kept.name) == kept


async def test_an_upload_of_yesterday_is_given_up(world: World, objects: ObjectStore) -> None:
    """Before the garbage collection may begin to delete its parts."""
    upload = UnderWay(uuid4(), await world.number(), "k")
    await note_part(world.database, upload, await written(objects, b"first"))
    await world.database.fetch(OLD)
    with pytest.raises(NotFoundError):
        await find_upload(world.database, upload.upload_id)
    await forget_uploads(world.database)
    assert await world.rows("select count(*) from upload_parts") == [(1,)]
    await world.database.fetch(OLDER)
    await world.database.fetch("update staged_objects set created_at = now() - interval '25 hours'")
    await forget_uploads(world.database)
    assert (
        await world.rows("select upload_id from uploads")
        == await world.rows("select upload_id from upload_parts")
        == []
    )
    assert await objects.collect_garbage() == 1


async def test_an_object_is_measured_by_reading_it(world: World, objects: ObjectStore) -> None:
    large = await written(objects, bytes(3_000_000))
    assert await objects.measure(large.name) == large
    empty = await written(objects, b"")
    assert await objects.measure(empty.name) == empty
