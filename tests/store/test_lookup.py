"""Questions: what is unknown is left out, whatever it is called."""

from pathlib import Path

import pytest

from ripieno.domain.errors import NotFoundError
from ripieno.domain.filters import SessionFilter, TaskFilter
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.reading.listing import page_of_tasks
from ripieno.store.reading.lookup import (
    FinishedKey,
    count_tasks,
    fetch_results,
    find_result,
    find_tasks,
    finished_results,
    matching_tasks,
    result_statuses,
    session_numbers,
    task_failure,
    task_failures,
)
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2
from ripieno.wire.requests import distinct_ids, task_filter
from store.world import OPTIONS, World, done, failed, options, over, task

MIB = 1024 * 1024


async def listed(world: World, which: TaskFilter, page: int = 2) -> list[str]:
    """Ids of matching tasks, a few to a page."""
    if which.task_ids is not None:
        return await matching_tasks(world.database, which.task_ids, which.statuses)
    sessions = await session_numbers(world.database, which.session_ids or ())
    found: list[str] = []
    last_no: int | None = 0
    while last_no is not None:
        ids, last_no = await page_of_tasks(world.database, sessions, which.statuses, last_no, page)
        found += ids
    return found


ODD = [
    "100%",
    "a.b#c",
    "задача",
    "任务",
    "with space",
    "'; drop table tasks --",
    "\u200b",
    "x\\y",
    "é",
    "e\u0301",
    "%",
    "_",
]


@pytest.mark.parametrize("odd", ODD)
async def test_odd_names_are_names(world: World, odd: str) -> None:
    assert await world.sessions.create(odd, OPTIONS)
    await world.submit(task(odd, odd), session_id=odd)
    await world.run(**{odd: odd})
    assert await world.statuses(odd) == ["COMPLETED"]
    assert await world.data(odd, odd) == odd.encode()
    assert list(await World(world.database).sessions.list(SessionFilter([odd], None))) == [odd]


async def test_names_that_look_alike_are_different(world: World) -> None:
    await world.submit(*(task(name, name) for name in ODD))
    assert await world.rows("select count(*) from tasks") == [(len(ODD),)]
    assert await world.statuses("É", "Задача", "100", "x\\\\y") == ["-"] * 4


async def test_the_longest_name(world: World) -> None:
    longest = "ж" * 512
    await world.submit(task(longest, longest))
    assert await world.statuses(longest) == ["SUBMITTED"]


async def test_what_holds_a_nul_is_unknown(world: World) -> None:
    """PostgreSQL's text cannot hold it; requests are rid of such names before they come here."""
    await world.submit(task("a", "ka"))
    assert list(await find_tasks(world.database, distinct_ids(["a\0", "a", "\0###1", "a"]))) == ["a"]
    filters = submitter_service_pb2.TaskFilter.IdsRequest(ids=["s\0"])
    nothing = task_filter(submitter_service_pb2.TaskFilter(session=filters))
    assert await count_tasks(world.database, nothing) == {}
    assert await listed(world, nothing) == []


async def test_an_attempt_id_stands_for_its_task_unless_one_is_called_so(world: World) -> None:
    await world.submit(task("a"), task("b"), task("b###2"), task("c###1"))
    found = await find_tasks(
        world.database, ["a###1", "a", "b###2", "b###3", "c###1###4", "c###1", "c", "a###0", "###1"]
    )
    assert {asked: each.id for asked, each in found.items()} == {
        "a###1": "a", "a": "a", "b###2": "b###2", "b###3": "b", "c###1###4": "c###1", "c###1": "c###1",
    }  # fmt: skip


async def test_lists_are_in_the_order_of_submission(world: World) -> None:
    await world.session("other")
    await world.submit(task("z"), task("a"))
    await world.submit(task("m"), session_id="other")
    await world.submit(task("b"))
    for page in (1, 2, 3, 4, 5):
        assert await listed(world, TaskFilter(None, ["other", "s", "s", "none"]), page) == ["z", "a", "m", "b"]
    assert await listed(world, TaskFilter(["b", "z###1", "none", "z", "m"], None)) == ["z", "m", "b"]


async def test_filters_are_anded(world: World) -> None:
    a, b, _ = await world.begin(task("a", "ka"), task("b"), task("c"))
    await world.commit(done(a, {"ka": b"1"}), failed(b, failure=Failure.OUTPUT))
    finished = frozenset({TaskStatus.COMPLETED, TaskStatus.ERROR})
    for which in (TaskFilter(None, ["s"], finished), TaskFilter(["c", "a", "b"], None, finished)):
        assert await listed(world, which) == ["a", "b"]
        assert await count_tasks(world.database, which) == {TaskStatus.COMPLETED: 1, TaskStatus.ERROR: 1}
    assert await count_tasks(world.database, TaskFilter(["a###1", "a", "c", "none"], None)) == {
        TaskStatus.COMPLETED: 1,
        TaskStatus.DISPATCHED: 1,
    }
    assert await count_tasks(world.database, TaskFilter(None, ["none"])) == {}


async def test_sessions_in_the_order_of_creation(world: World) -> None:
    for name in ("z", "b"):
        await world.session(name)
    await world.cancel_session("z")
    listed = world.sessions.list
    assert list(await listed(SessionFilter(None, None))) == ["s", "z", "b"]
    assert list(await listed(SessionFilter(["b", "s", "b", "none"], None))) == ["s", "b"]
    assert list(await listed(SessionFilter(None, frozenset({SessionStatus.CANCELLED})))) == ["z"]
    assert list(await listed(SessionFilter(["s"], frozenset({SessionStatus.CANCELLED})))) == []


async def test_a_key_that_is_only_named_does_not_exist(world: World) -> None:
    number = await world.number()
    await world.submit(task("a", "ka", needs=["named"]))
    assert await result_statuses(world.database, number, ["ka", "named", "none"]) == {"ka": ResultStatus.CREATED}
    assert await find_result(world.database, number, "named") is None
    finished = await finished_results(world.database, number, ["named", "none", "ka"], 100, MIB)
    assert finished == [FinishedKey(key, ResultStatus.NAMED, 0, None) for key in ("named", "none")]
    fetched = await fetch_results(world.database, [(number, "named"), (number, "ka")], MIB)
    assert fetched == [
        "result 'named' does not exist in this session",
        "result 'ka' is not completed: it is CREATED, owned by task 'a'",
    ]


async def test_finished_results_bring_small_data_along(world: World) -> None:
    number = await world.number()
    [a] = await world.begin(task("a", "small", "large", "empty", "none"))
    await world.commit(done(a, {"small": b"12345", "large": b"123456", "empty": b""}))
    finished = {
        each.key: each
        for each in await finished_results(world.database, number, ["small", "large", "empty", "none"], 5, MIB)
    }
    assert finished == {
        "small": FinishedKey("small", ResultStatus.COMPLETED, 5, b"12345"),
        "large": FinishedKey("large", ResultStatus.COMPLETED, 6, None),
        "empty": FinishedKey("empty", ResultStatus.COMPLETED, 0, b""),
        "none": FinishedKey("none", ResultStatus.ABORTED, 0, None),
    }


async def test_fetched_results_are_in_the_order_asked(world: World) -> None:
    number, other = await world.number(), await world.session("other")
    [a] = await world.begin(task("a", "k1", "k2"))
    await world.commit(done(a, {"k1": b"1", "k2": b""}))
    asked = [(number, "k2"), (other, "k1"), (number, "k1"), (number, "k2")]
    fetched = await fetch_results(world.database, asked, MIB)
    assert fetched == [b"", "result 'k1' does not exist in this session", b"1", b""]
    assert await fetch_results(world.database, [], MIB) == []


async def test_a_name_that_the_database_cannot_hold_is_nobodys(world: World, tmp_path: Path) -> None:
    number = await world.number()
    [a] = await world.begin(task("a", "k"))
    await world.commit(done(a, {"k": b"1"}))
    fetched = await fetch_results(world.database, [(number, "a\0b"), (number, "k")], MIB)
    assert fetched == ["result 'a\\x00b' does not exist in this session", b"1"]
    with pytest.raises(NotFoundError, match="holds no payload and no result"):
        await ObjectStore(world.database, str(tmp_path)).find("aa/b\0")


async def test_bytes_beyond_the_total_stay_where_they_are(world: World) -> None:
    number = await world.number()
    stored = await world.stage("aa/large", 1 << 40)
    keys = [f"k{place}" for place in range(200)]
    [a] = await world.begin(task("a", *keys, "large", "aborted"))
    await world.commit(done(a, {key: bytes(1_000) for key in keys} | {"large": stored}))
    mixed = ["large", "aborted", *keys, "none"]

    for total, whole in ((5_999, 5), (6_000, 6), (1, 1), (0, 1)):
        finished = await finished_results(world.database, number, mixed, 1_000, total)
        assert [each.key for each in finished] == mixed
        assert [each.key for each in finished if each.unread] == keys[whole:]
        assert all(each.data is None for each in finished if each.unread)
        assert sum(len(each.data or b"") for each in finished) == whole * 1_000

    for total, whole in ((5_999, 5), (6_000, 6), (100_000, 100), (1 << 30, 200), (1, 1)):
        fetched = await fetch_results(world.database, [(number, key) for key in keys], total)
        assert fetched == [bytes(1_000)] * whole


async def test_large_data_are_found_by_name(world: World) -> None:
    number = await world.number()
    stored = await world.stage("aa/large", 1 << 40)
    [a] = await world.begin(task("a", "ka"))
    await world.commit(done(a, {"ka": stored}))
    assert await world.data("ka") == stored
    assert await fetch_results(world.database, [(number, "ka")], MIB) == [stored]
    assert await finished_results(world.database, number, ["ka"], 1 << 50, MIB) == [
        FinishedKey("ka", ResultStatus.COMPLETED, 1 << 40, None, stored)
    ]


async def test_the_reasons_of_many_attempts_share_a_message(world: World) -> None:
    retries, detail = 40, "why " * 4_000
    await world.submit(task("a", "ka"), of=options(retries=retries))
    for _ in range(retries + 1):
        await world.commit(failed((await world.claim())["a"], detail))
    number = (await find_tasks(world.database, ["a"]))["a"].task_no

    [told, none] = await task_failures(world.database, [(number, None), (number + 1, "not there")])

    assert len(told.errors) == retries + 1
    assert 50_000 < sum(len(error.detail) for error in told.errors) <= 65_536
    assert all(detail.startswith(error.detail) for error in told.errors)
    assert [error.detail for error in none.errors] == ["not there"]


async def test_why_a_result_was_aborted(world: World) -> None:
    number = await world.number()
    [a] = await world.begin(task("a", "ka"))
    await world.commit(failed(a, "first"))
    again = (await world.claim())["a"]
    await world.commit(done(again))
    result = await find_result(world.database, number, "ka")
    assert result is not None and result.owner_id == "a" and result.data is None
    assert result.owner_no is not None
    failure = await task_failure(world.database, result.owner_no, result.reason)
    assert failure.task_id == "a"
    assert [(each.status.name, each.detail) for each in failure.errors] == [
        ("ERROR", "first"),
        ("COMPLETED", "task 'a' completed without producing it"),
    ]


async def test_why_while_its_owner_is_still_being_stopped(world: World) -> None:
    [a] = await world.begin(task("a", "ka"))
    await world.cancel("a")
    result = await find_result(world.database, await world.number(), "ka")
    assert result is not None and result.status is ResultStatus.ABORTED
    assert result.owner_no is not None
    failure = await task_failure(world.database, result.owner_no, result.reason)
    assert (failure.task_id, [each.detail for each in failure.errors]) == ("a", ["cancelled"])
    await world.commit(over(a.ticket))
