"""Results that the client makes: as dependencies and as payloads of tasks, in every lane; deleted; and resumed uploads."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import ripieno.client.submitting.uploads as uploads
from agreement.handlers import pattern
from agreement.scripts import script, task
from agreement.stage import Stage, unique
from ripieno.client import ConflictError, ResultHandle, TaskDefinition, TaskFailedError, TaskOptions, TaskStatus

COMPLETED, ERROR = TaskStatus.COMPLETED, TaskStatus.ERROR
LARGE_BYTES = 3_000_000


def doing(*steps: list[object]) -> TaskOptions:
    """Options of a task whose script does not stand in its payload."""
    return TaskOptions(options={"do": json.dumps(steps)})


async def test_put_results_are_inputs(stage: Stage, tmp_path: Path) -> None:
    session = await stage.session()
    large = b"".join(pattern(LARGE_BYTES))
    (tmp_path / "large").write_bytes(large)
    told: list[int] = []
    small_one = await session.put(b"small", name="a name")
    large_one = await session.put(tmp_path / "large", progress=told.append)
    pieces = await session.put([b"pie", b"ces"])
    assert told == [LARGE_BYTES]
    assert [await session.result(each) for each in (small_one, pieces)] == [b"small", b"pieces"]
    assert await session.result(large_one) == large

    name = unique("inputs")
    digests = await stage.seen(
        await session.submit(TaskDefinition(large_one, (), [small_one, pieces], name), task_options=doing(["digest"]))
    )

    def digest(data: bytes) -> str:
        return f"{len(data)} {hashlib.sha256(data).hexdigest()}"

    assert digests.status is COMPLETED and digests.data is not None
    assert json.loads(digests.data) == {
        "": digest(large), small_one.key: digest(b"small"), pieces.key: digest(b"pieces")
    }  # fmt: skip


async def test_a_payload_that_comes_later(stage: Stage) -> None:
    session = await stage.session()
    [script_one] = await session.create_results(["a script"])
    waiting = await session.submit(script_one, id=unique("later"))
    assert await waiting.status() is TaskStatus.SUBMITTED
    await session.upload(script_one, script(["give", "as it says"]))
    await session.upload(script_one, script(["give", "as it says"]))
    with pytest.raises(ConflictError, match="has other data"):
        await session.upload(script_one, b"something else")
    assert (await stage.seen(waiting)).data == b"as it says"


async def test_a_task_makes_what_the_client_created(stage: Stage) -> None:
    session = await stage.session()
    [created] = await session.create_results([""])
    await session.submit(task(unique("makes"), ["send", created.key, "made"], keys=[created.key]))
    assert await session.result(created, timeout=30) == b"made"
    with pytest.raises(ConflictError, match="is an output of task"):
        await session.upload(created, b"too late")


async def test_deleted_data_fails_those_who_need_it(stage: Stage) -> None:
    session, gate = await stage.session(), stage.gate()
    doomed, kept = await session.put(b"doomed"), await session.put(b"kept")
    first = unique("first")
    [_, waiting] = await session.submit_many(
        [task(first, ["hold", str(gate.path)]), task(unique("waits"), ["tell"], needs=[first, doomed.key])]
    )
    await gate.begun()
    assert await session.delete_data([doomed, "unknown"]) == [doomed.key]
    seen = await stage.seen(waiting)
    assert seen.status is ERROR
    late = await session.submit(task(unique("late"), ["tell"], needs=[doomed.key]))
    for each in (waiting, late):
        with pytest.raises(TaskFailedError, match=f"input '{doomed.key}' is gone: its data was deleted"):
            await each.result(timeout=30)
    with pytest.raises(TaskFailedError, match="its data was deleted"):
        await session.result(doomed)
    assert await session.result(kept) == b"kept"
    gate.open()


async def test_an_iterator_is_read_once(one_stage: Stage) -> None:
    session = await one_stage.session()
    stored = await session.put(iter([b"once"]))
    assert isinstance(stored, ResultHandle)
    assert await session.result(stored) == b"once"

    def breaks() -> Iterator[bytes]:
        yield bytes(3_000_000)
        raise ZeroDivisionError("in the caller's own iterable")

    with pytest.raises(ZeroDivisionError, match="in the caller's own"):
        await session.put(breaks())
    with pytest.raises(TypeError, match="a payload is bytes"):
        await session.put("text")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        async with asyncio.timeout(30):
            await session.put(Path("/none/such"))


@pytest.mark.parametrize("offset", [0, 1, 5, 6, 7, 11])
async def test_a_source_is_read_from_an_offset(tmp_path: Path, offset: int) -> None:
    (tmp_path / "file").write_bytes(b"hello world")
    for source in (b"hello world", tmp_path / "file", [b"hello ", b"", b"world"]):
        rest = b"".join([chunk async for chunk in uploads._chunks_from(source, offset)])
        assert rest == b"hello world"[offset:]
