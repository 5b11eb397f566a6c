"""Lists of the client SDK, in both forms, through a replica."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import ripieno.client.reading.lists as lists
from control.replica import Served
from ripieno.client import (
    AsyncClient,
    Client,
    InvalidRequestError,
    ListedPartition,
    ResultStatus,
    SessionStatus,
    TaskOptions,
    TaskStatus,
)
from store.world import World, done, options, task


async def test_what_there_is_as_records(served: Served, world: World) -> None:
    agent = await world.agent("agent 7")
    await world.submit(task("t1", "k1", payload=b"12345"), of=options(priority=7, color="red", partition="p"))
    await world.submit(task("t2", needs=["k1"]))
    claimed = await world.claim(1, "p", agent)
    await world.commit(done(claimed["t1"], {"k1": b"xyz"}))
    async with AsyncClient(served.address) as client:
        first, second = [each async for each in client.list_tasks()]
        [result] = [each async for each in client.list_results("session_id=s")]
        [attempt] = [each async for each in client.list_attempts("task_id=t1")]
        [session] = [each async for each in client.list_sessions()]
        [named] = [each async for each in client.list_agents("name='agent 7'")]
        partitions = [each async for each in client.list_partitions(sort="-name")]
    of = TaskOptions(priority=7, max_retries=2, max_duration=10.0, partition="p", options={"color": "red"})
    assert (first.id, first.status, first.options, first.agent) == ("t1", TaskStatus.COMPLETED, of, "agent 7")
    assert (first.expected_output_keys, first.payload_size, first.error) == (("k1",), 5, None)
    assert first.started_at is not None and first.ended_at is not None
    assert first.duration == first.ended_at - first.started_at
    assert datetime.now(UTC) - first.submitted_at < timedelta(minutes=2)
    assert (second.data_dependencies, second.claimed_at, second.worker) == (("k1",), None, None)
    assert (result.key, result.status, result.size, result.name) == ("k1", ResultStatus.COMPLETED, 3, None)
    assert (attempt.number, attempt.status, attempt.task_number) == (0, TaskStatus.COMPLETED, first.number)
    assert (session.id, session.status, session.cancelled_at) == ("s", SessionStatus.RUNNING, None)
    assert (named.connected, named.partitions, named.held) == (True, ("",), 0)
    assert partitions == [ListedPartition("p", 0, 0, 0, 0), ListedPartition("", 1, 1, 0, 1)]


async def test_lists_go_on_page_after_page_up_to_their_limit(
    served: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_PAGE", 3)
    await world.submit(*(task(f"t{place}") for place in range(8)))
    newest = [f"t{place}" for place in range(7, -1, -1)]
    async with AsyncClient(served.address) as client:
        for limit in (None, 0, 1, 3, 4, 8, 9):
            found = [each.id async for each in client.list_tasks(sort="-number", limit=limit)]
            assert found == newest[:limit], limit


async def test_a_page_that_is_too_large_is_read_in_smaller_ones(served: Served, world: World) -> None:
    keys = [f"{place:0250}" for place in range(1_000)]
    for number in range(20):
        await world.submit(task(f"t{number}", *(f"{number} {key}" for key in keys)))
    async with AsyncClient(served.address) as client:
        assert [each.id async for each in client.list_tasks()] == [f"t{number}" for number in range(20)]


async def test_the_blocking_form(served: Served, world: World) -> None:
    await world.submit(*(task(f"t{place}") for place in range(3)))

    def listed() -> list[str]:
        with Client(served.address) as client:
            assert [each.id for each in client.list_sessions()] == ["s"]
            return [each.id for each in client.list_tasks("id!=t1", sort="-id", limit=5)]

    assert await asyncio.to_thread(listed) == ["t2", "t0"]


async def test_what_means_nothing_is_told_before_anything_is_sent() -> None:
    async with AsyncClient("127.0.0.1:1", patience=0) as client:
        for arguments, said in (
            ({"where": "statsu=ERROR"}, "where: 'statsu' is not a field of tasks; did you mean 'status'?"),
            ({"where": "id="}, "where: at the end: a value is missing for id"),
            ({"sort": "ids"}, "sort: 'ids' is not a field of tasks"),
            ({"limit": -1}, "limit: -1 is negative"),
        ):
            with pytest.raises(InvalidRequestError) as refused:
                _ = [each async for each in client.list_tasks(**arguments)]
            assert refused.value.detail.startswith(said)
