"""Golden scenarios G9 to G11: tasks that wait for results."""

import json

from agreement.scripts import task
from agreement.stage import Seen, Stage, unique
from ripieno.client import ResultStatus, TaskDefinition, TaskStatus

COMPLETED, ERROR = TaskStatus.COMPLETED, TaskStatus.ERROR


async def test_g9_a_key_that_is_announced_later(stage: Stage) -> None:
    session, first, second = await stage.session(), unique("g9-a"), unique("g9-b")
    waiting = await session.submit(task(first, ["tell"], needs=[second]))
    assert await waiting.status() is TaskStatus.SUBMITTED
    assert await session.result_status(second) == {}
    await session.submit(task(second, ["give", "bytes of b"]))

    seen = await stage.seen(waiting)

    assert seen.status is COMPLETED and seen.data is not None
    assert json.loads(seen.data)["data"] == {second: "bytes of b"}


async def test_g11_a_key_twice_counts_once(stage: Stage) -> None:
    session, gate = await stage.session(), stage.gate()
    first, second = unique("g11-a"), unique("g11-b")
    [waiting, _] = await session.submit_many(
        [task(first, ["tell"], needs=[second, second]), task(second, ["hold", str(gate.path)], ["give", "once"])]
    )
    await gate.begun()
    assert await waiting.status() is TaskStatus.SUBMITTED
    gate.open()

    seen = await stage.seen(waiting)

    assert seen.data is not None and json.loads(seen.data)["data"] == {second: "once"}


async def test_dependencies_come_in_the_order_in_which_they_are_named(stage: Stage) -> None:
    session, name = await stage.session(), unique("order")
    keys = [f"key {number:02}" for number in range(40)]
    makers = [task(unique("maker"), ["give", key], keys=[key]) for key in keys]
    wanted = keys[::3] + keys[1::3] + keys[2::3]
    handles = await session.submit_many([task(name, ["tell"], needs=wanted), *makers])

    seen = await stage.seen(handles[0])

    assert seen.data is not None
    assert list(json.loads(seen.data)["data"].items()) == [(key, key) for key in wanted]


async def test_a_diamond_of_numbers(stage: Stage) -> None:
    session, stem = await stage.session(), unique("diamond")
    tasks, last = [task(f"{stem} 0", ["total", 1])], f"{stem} 0"
    for layer in range(1, 6):
        sides = [f"{stem} {layer}.{side}" for side in range(4)]
        tasks += [task(side, ["total", 1], needs=[last]) for side in sides]
        last = f"{stem} {layer}"
        tasks.append(task(last, ["total", 0], needs=sides))
    handles = await session.submit_many(tasks)

    value = 1
    for _ in range(5):
        value = 4 * (1 + value)
    assert await stage.seen(handles[-1]) == Seen(COMPLETED, str(value).encode())
    assert await session.wait() == {COMPLETED: len(tasks)}


def _chain(stem: str, *first_steps: list[object]) -> list[TaskDefinition]:
    b, a, c = (f"{stem} {letter}" for letter in "bac")
    return [task(c, ["total", 1], needs=[a]), task(a, ["total", 1], needs=[b]), task(b, *first_steps)]


def _told(stem: str, status: str, cause: str) -> tuple[str, str]:
    """What is told of a and of c when b ended so."""
    of_a = f"input '{stem} b' was aborted: task '{stem} b' ended in {status}: {cause}"
    return of_a, f"input '{stem} a' was aborted: task '{stem} a' ended in ERROR: {of_a}"


async def test_g10_an_error_and_its_cause_go_down_the_graph(stage: Stage) -> None:
    session, stem, book = await stage.session(), unique("g10"), stage.folder / unique("book")
    handles = await session.submit_many(_chain(stem, ["note", str(book)], ["error", "the root cause"]))

    c, a, b = await stage.all_seen(handles)

    of_a, of_c = _told(stem, "ERROR", "the root cause")
    assert b == Seen(ERROR, None, f"{stem} b", ((ERROR, "the root cause"),))
    assert a == Seen(ERROR, None, f"{stem} a", ((ERROR, of_a),))
    assert c == Seen(ERROR, None, f"{stem} c", ((ERROR, of_c),))
    assert book.read_text().splitlines() == [f"{stem} b"]


async def test_g10_a_time_limit_is_a_cause(stage: Stage) -> None:
    session, stem = await stage.session(max_duration=0.2), unique("g10-limit")
    handles = await session.submit_many(_chain(stem, ["hold", str(stage.gate().path)]))

    c, a, _ = await stage.all_seen(handles)

    of_a, of_c = _told(stem, "TIMEOUT", "ran longer than max_duration (0.2 s)")
    assert [a.attempts, c.attempts] == [((ERROR, of_a),), ((ERROR, of_c),)]


async def test_g10_a_result_that_was_not_made_is_a_cause(stage: Stage) -> None:
    session, stem = await stage.session(), unique("g10-idle")
    handles = await session.submit_many(_chain(stem, ["note", "/dev/null"]))

    c, a, b = await stage.all_seen(handles)

    not_made = f"task '{stem} b' completed without producing it"
    of_a, of_c = _told(stem, "COMPLETED", not_made)
    assert (b.status, b.reasons) == (COMPLETED, [not_made])
    assert [a.attempts, c.attempts] == [((ERROR, of_a),), ((ERROR, of_c),)]


async def test_g10_an_input_that_was_aborted_before(stage: Stage) -> None:
    session, cause, late = await stage.session(), unique("g10-cause"), unique("g10-late")
    await stage.seen(await session.submit(task(cause, ["error", "long ago"])))

    seen = await stage.seen(await session.submit(task(late, ["tell"], needs=[cause])))

    reason = f"input {cause!r} was aborted: task {cause!r} ended in ERROR: long ago"
    assert seen == Seen(ERROR, None, late, ((ERROR, reason),))
    assert await session.result_status([cause, late]) == {cause: ResultStatus.ABORTED, late: ResultStatus.ABORTED}
