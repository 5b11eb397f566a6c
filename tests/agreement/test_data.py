"""Golden scenarios G26 and G30: data that workers ask for, and large data everywhere."""

import hashlib
import json
from pathlib import Path

from agreement.handlers import pattern
from agreement.scripts import script, task
from agreement.stage import Seen, Stage, unique
from ripieno.client import TaskStatus

COMPLETED = TaskStatus.COMPLETED
LARGE_BYTES = 5 * 1024 * 1024


def digest(data: bytes) -> str:
    """As the step ``digest`` and the step ``fetch`` tell it."""
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


async def test_g26_data_on_demand(stage: Stage) -> None:
    session, gate, name = await stage.session(), stage.gate(), unique("g26")
    small, large, empty, open_key, failed = (
        unique(f"g26-{what}") for what in ("small", "large", "empty", "open", "bad")
    )
    handles = await session.submit_many(
        [
            task(small, ["give", "some bytes"]),
            task(large, ["send_pattern", large, 300_000]),
            task(empty, ["give", ""]),
            task(failed, ["error", "boom"]),
        ]
    )
    await stage.all_seen(handles)
    await session.submit(task(open_key, ["hold", str(gate.path)]))
    await gate.begun()
    keys = [small, large, empty, open_key, failed, "unknown"]
    # A key's own agent has it at hand (direct) once it has fetched it (common).
    wanted = [(kind, key) for kind in ("resource", "common_data") for key in keys]
    wanted += [("direct_data", key) for key in (small, empty, "unknown")]
    asks = await session.submit(task(name, ["fetch", wanted]))

    seen = await stage.seen(asks)
    gate.open()

    assert seen.status is COMPLETED and seen.data is not None
    answers = json.loads(seen.data)
    there = [digest(b"some bytes"), digest(b"".join(pattern(300_000))), digest(b"")]
    not_there = [
        f"result {open_key!r} is not completed: it is CREATED, owned by task {open_key!r}",
        f"result {failed!r} is not completed: it is ABORTED, owned by task {failed!r}",
        "result 'unknown' does not exist in this session",
    ]
    assert answers[:6] == there + not_there
    assert answers[6:12] == there + not_there
    absent = "result 'unknown' is not on this agent; ask for it as resource"
    assert answers[12:] == [there[0], there[2], absent]
    await session.wait(timeout=30)


async def test_g26_data_of_another_session(stage: Stage) -> None:
    mine, other, key = await stage.session(), await stage.session(), unique("g26-other")
    await stage.seen(await other.submit(task(key, ["give", "not yours"])))
    asks = await mine.submit(script(["fetch", [(kind, key) for kind in ("resource", "common_data", "direct_data")]]))

    seen = await stage.seen(asks)

    assert seen.data is not None
    unknown = f"result {key!r} does not exist in this session"
    assert json.loads(seen.data) == [unknown, unknown, f"result {key!r} is not on this agent; ask for it as resource"]


async def test_g30_large_payload_and_result(stage: Stage, tmp_path: Path) -> None:
    session, name = await stage.session(options={"do": '[["echo"]]'}), unique("g30")
    data = b"".join(pattern(LARGE_BYTES))
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)

    handle = await session.submit(source, id=name)

    assert await session.download(handle, target, timeout=60) == LARGE_BYTES
    assert digest(target.read_bytes()) == digest(data)
    assert await stage.seen(handle) == Seen(COMPLETED, data)


async def test_g30_large_dependencies(stage: Stage) -> None:
    session, name = await stage.session(), unique("g30-reads")
    sizes = {unique("g30-made"): size for size in (LARGE_BYTES, 1, 84_000, 84_001, 65_536, 65_537)}
    handles = await session.submit_many(
        [
            task(name, ["digest"], needs=list(sizes)),
            *(task(key, ["send_pattern", key, size]) for key, size in sizes.items()),
        ]
    )

    seen = await stage.seen(handles[0])

    assert seen.data is not None
    expected = {key: digest(b"".join(pattern(size))) for key, size in sizes.items()}
    assert json.loads(seen.data) == {"": digest(script(["digest"])), **expected}


async def test_g30_large_data_on_demand(stage: Stage) -> None:
    session, made = await stage.session(), unique("g30-resource")
    [maker] = await session.submit_many([task(made, ["send_pattern", made, LARGE_BYTES])])
    await session.wait(maker, timeout=60)
    wanted = [("resource", made), ("common_data", made), ("direct_data", made)]

    seen = await stage.seen(await session.submit(script(["fetch", wanted])))

    assert seen.data is not None
    assert json.loads(seen.data) == [digest(b"".join(pattern(LARGE_BYTES)))] * 3
