"""Golden scenarios G1 to G6 and G27: what comes of one task."""

import json

import pytest

from agreement.scripts import script, task
from agreement.stage import Seen, Stage, unique
from ripieno.client import ResultStatus, TaskStatus

COMPLETED, ERROR, TIMEOUT = TaskStatus.COMPLETED, TaskStatus.ERROR, TaskStatus.TIMEOUT


async def test_g1_a_result(stage: Stage) -> None:
    session, gate, name = await stage.session(options={"colour": "blue"}), stage.gate(), unique("g1")
    handle = await session.submit(task(name, ["hold", str(gate.path)], ["tell"]))
    await gate.begun()
    assert await session.result_status(name) == {name: ResultStatus.CREATED}
    assert not (await handle.status()).final
    gate.open()

    seen = await stage.seen(handle)

    assert seen.status is COMPLETED and seen.data is not None
    told = {"session": session.id, "id": name, "options": {"colour": "blue"}, "keys": [name], "data": {}}
    assert json.loads(seen.data) == told
    assert await session.result_status(name) == {name: ResultStatus.COMPLETED}
    assert await session.wait() == {COMPLETED: 1}


async def test_several_results_of_one_task(stage: Stage) -> None:
    session, name = await stage.session(), unique("several")
    keys = ["a%b", "#.", "größe", "returned"]
    sends = [["send", keys[0], "one"], ["send", keys[1], ""], ["send", keys[2], "three"]]
    handle = await session.submit(task(name, *sends, ["give", "four"], keys=keys))

    found = {result.key: result.data async for result in session.results([handle], timeout=30)}

    assert found == dict(zip(keys, [b"one", b"", b"three", b"four"], strict=True))


async def test_g2_nothing_made(stage: Stage) -> None:
    session, name = await stage.session(), unique("g2")
    handle = await session.submit(task(name, ["send", "made", "x"], keys=["made", "left out"]))

    assert await stage.seen(handle, "made") == Seen(COMPLETED, b"x")
    reason = f"task {name!r} completed without producing it"
    assert await stage.seen(handle, "left out") == Seen(COMPLETED, None, name, ((COMPLETED, reason),))
    assert await session.result_status(["made", "left out"]) == {
        "made": ResultStatus.COMPLETED,
        "left out": ResultStatus.ABORTED,
    }


async def test_g3_a_result_and_then_an_output_error(stage: Stage) -> None:
    session, name = await stage.session(max_retries=5), unique("g3")
    handle = await session.submit(task(name, ["send", name, "never seen"], ["error", "boom"]))

    assert await stage.seen(handle) == Seen(ERROR, None, name, ((ERROR, "boom"),))


async def test_g4_every_attempt_fails(stage: Stage) -> None:
    session, name, book = await stage.session(max_retries=2), unique("g4"), stage.folder / unique("book")
    handle = await session.submit(task(name, ["note", str(book)], ["send", name, "x"], ["fail", "attempt", 9]))

    seen = await stage.seen(handle)

    assert (seen.status, seen.data, seen.owner) == (ERROR, None, name)
    assert [status for status, _ in seen.attempts] == [ERROR] * 3
    assert seen.reasons == ["RuntimeError: attempt 0", "RuntimeError: attempt 1", "RuntimeError: attempt 2"]
    assert all(detail.startswith("Traceback") for _, detail in seen.attempts)
    assert book.read_text().splitlines() == [name, f"{name}###1", f"{name}###2"]


async def test_g5_the_last_attempt_succeeds(stage: Stage) -> None:
    session, name, book = await stage.session(max_retries=2), unique("g5"), stage.folder / unique("book")
    handle = await session.submit(task(name, ["note", str(book)], ["fail", "attempt", 2], ["give", "at last"]))

    assert await stage.seen(handle) == Seen(COMPLETED, b"at last")
    assert book.read_text().splitlines() == [name, f"{name}###1", f"{name}###2"]


async def test_g6_slower_than_allowed(stage: Stage) -> None:
    session, name = await stage.session(max_retries=1, max_duration=0.3), unique("g6")
    handle = await session.submit(task(name, ["hold", str(stage.gate().path)]))

    reason = "ran longer than max_duration (0.3 s)"
    assert await stage.seen(handle) == Seen(TIMEOUT, None, name, ((TIMEOUT, reason),) * 2)
    # Both workers serve on.
    after = await session.submit_many([script(["give", f"{number}"]) for number in range(20)])
    assert [seen.data for seen in await stage.all_seen(after)] == [b"%d" % number for number in range(20)]


_FOREIGN = (
    "ripieno.domain.errors.InvalidRequestError: key: 'foreign' is not an expected output of this task;"
    " expected: 'a', 'b'"
)
_REPEATED = (
    "ripieno.domain.errors.InvalidRequestError: key: 'a' was sent or delegated already; each result is made once"
)
_WHOSE = (
    "ripieno.worker.terms.errors.HandlerError: the handler returned bytes, which are the one result that is still owed,"
    " but owed are: 'a', 'b'. Send each result with task.send_result(key, data) and return None"
)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([["send", "foreign", "x"]], _FOREIGN),
        ([["send", "a", "x"], ["send", "a", "y"]], _REPEATED),
        ([["give", "whose"]], _WHOSE),
    ],
    ids=["foreign", "repeated", "whose"],
)
async def test_g27_what_a_worker_may_not_do(stage: Stage, steps: list[list[str]], reason: str) -> None:
    session, name = await stage.session(max_retries=1), unique("g27")
    handle = await session.submit(task(name, *steps, keys=["a", "b"]))

    seen = await stage.seen(handle, "b")

    assert (seen.status, seen.owner, seen.reasons) == (ERROR, name, [reason] * 2)
    assert await stage.seen(await session.submit(script(["give", "next"]))) == Seen(COMPLETED, b"next")
