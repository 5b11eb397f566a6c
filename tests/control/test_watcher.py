"""Waits cost what they are about, and leave nothing behind however they end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

import ripieno.control.waiting.waits as waits
import ripieno.control.waiting.watches as watches
from control.replica import Served, until
from ripieno.control.calls.questions import Questions
from ripieno.control.waiting.waits import Waits
from ripieno.control.waiting.watcher import Watcher
from ripieno.control.waiting.watches import KeysWaiter, TasksWaiter
from ripieno.domain.errors import UnavailableError
from ripieno.domain.filters import TaskFilter
from ripieno.domain.outcomes import Failure
from ripieno.domain.statuses import TaskStatus
from ripieno.store.cluster.signals import News
from ripieno.store.reading.lookup import FinishedKey, find_tasks, finished_results, stopped_tasks
from ripieno.store.sessions.changes import Changes
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.statuses import TASK_TO_WIRE
from store.world import World, done, failed, task

_SOON_S = 20.0
_MANY = 500
_Filter = submitter_service_pb2.TaskFilter


@pytest_asyncio.fixture
async def watcher(world: World) -> AsyncIterator[Watcher]:
    watcher = Watcher(world.database, 65_536)
    running = asyncio.create_task(watcher.run())
    await asyncio.sleep(0)
    yield watcher
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_news_is_looked_up_and_nothing_that_is_waited_for_beside(
    world: World, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def counted(database: Any, session_no: int, keys: Sequence[str], *limits: int) -> list[FinishedKey]:
        asked.extend(keys)
        return await finished_results(database, session_no, keys, *limits)

    monkeypatch.setattr(watches, "finished_results", counted)
    keys = [f"k{place}" for place in range(_MANY)]
    claimed = await world.begin(*(task(f"t{key}", key) for key in keys[:10]))
    await world.submit(*(task(f"t{key}", key, needs=["never"]) for key in keys[10:]))
    number, got = await world.number(), list[str]()
    with watcher.keys(number) as watch:
        waiters = [KeysWaiter(lambda found: got.extend(each.key for each in found)) for _ in keys]
        for waiter, key in zip(waiters, keys, strict=True):
            watch.add(waiter, [key])
        await until(lambda: len(asked) == _MANY)  # each is looked up when its wait begins

        watcher.changed_here(Changes({number}, completed={number: dict.fromkeys(keys[10:20], b"here")}))
        assert got == keys[10:20]
        watcher.changed_elsewhere(News(sessions=frozenset({number})))
        await world.cancel(*(each.task_id for each in claimed))
        watcher.changed_elsewhere(News(sessions=frozenset({number}), results={number: [*keys[:3], "foreign"]}))
        await until(lambda: len(got) == 13)
        assert got[10:] == keys[:3]
        assert asked[_MANY:] == keys[:3]

        for waiter in waiters:
            watch.remove(waiter)
        assert len(watch._waiting) == 0
    assert not watcher._running and not watcher._by_session


async def test_tasks_that_ended_are_looked_up_and_no_others(
    world: World, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def counted(database: Any, tasks: Sequence[int]) -> list[tuple[int, TaskStatus]]:
        asked.extend(tasks)
        return await stopped_tasks(database, tasks)

    monkeypatch.setattr(watches, "stopped_tasks", counted)
    held = await world.begin(*(task(f"t{place}", f"k{place}") for place in range(20)))
    await world.submit(*(task(f"u{place}", needs=["never"]) for place in range(_MANY)))
    found = await find_tasks(world.database, [f"u{place}" for place in range(_MANY)])
    number, got = await world.number(), dict[int, TaskStatus]()
    waiting = [each.ticket.task_no for each in held] + [each.task_no for each in found.values()]
    with watcher.tasks(number) as watch:
        waiters = [TasksWaiter(lambda ended: got.update(ended)) for _ in waiting]
        for waiter, task_no in zip(waiters, waiting, strict=True):
            watch.add(waiter, [task_no], None)
        await until(lambda: sorted(asked) == sorted(waiting))

        changes = await world.commit(*(done(each, {f"k{place}": b""}) for place, each in enumerate(held[:2])))
        changes.add(await world.commit(failed(held[2], failure=Failure.OUTPUT)))
        watcher.changed_here(changes)
        await until(lambda: len(got) == 3)
        changes = await world.commit(done(held[3], {"k3": b""}), done(held[4], {"k4": b""}))
        watcher.changed_elsewhere(News(frozenset({number}), ended=changes.ended))
        await until(lambda: len(got) == 5)
        assert asked[len(waiting) :] == waiting[:5]

        watcher.changed_here(await world.submit(task("more")))
        watcher.changed_here(await world.cancel("u7", "t9"))
        await until(lambda: len(got) == 6)
        assert got[found["u7"].task_no] is TaskStatus.CANCELLED
        for waiter in waiters:
            watch.remove(waiter)
    assert not watcher._running and not watcher._by_session


async def test_waits_that_end_early_leave_nothing_behind(
    served: Served, channel: grpc.aio.Channel, world: World
) -> None:
    await world.submit(task("t", "k", needs=["never"]))
    stub = submitter_service_pb2_grpc.SubmitterStub(channel)
    by_session = _Filter(session=_Filter.IdsRequest(ids=["s"]))
    by_task = _Filter(task=_Filter.IdsRequest(ids=["t"]))
    excluding = _Filter(
        task=_Filter.IdsRequest(ids=["t"]),
        excluded=_Filter.StatusesRequest(statuses=[TASK_TO_WIRE[TaskStatus.COMPLETED]]),
    )

    async def wait(place: int) -> grpc.StatusCode:
        timeout = 0.001 + 0.001 * (place % 50)
        try:
            if place % 4 == 0:
                await stub.WaitForAvailability(objects_pb2.ResultRequest(session="s", key="k"), timeout=timeout)
            else:
                which = [by_session, by_task, excluding][place % 4 - 1]
                await stub.WaitForCompletion(submitter_service_pb2.WaitRequest(filter=which), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    assert set(await asyncio.gather(*map(wait, range(_MANY)))) == {grpc.StatusCode.DEADLINE_EXCEEDED}
    watcher = served.replica._watcher
    await until(lambda: not (watcher._running or watcher._promises or watcher._by_session))
    await until(lambda: not served.replica._admission._waits._held)


async def test_waits_that_do_not_come_to_wait_leave_nothing_behind(
    world: World, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.submit(task("t", "k", needs=["never"]))
    waiting = Waits(world.database, watcher, Questions())

    async def gone(*_: object) -> list[int]:
        assert watcher._promises
        raise UnavailableError("the database has gone")

    monkeypatch.setattr(waits, "session_numbers", gone)
    with pytest.raises(UnavailableError, match="has gone"):
        await waiting.completion(TaskFilter(None, ["s"]), stop_on_error=False, stop_on_cancellation=False)
    number = await world.number()
    beginning = asyncio.create_task(waiting._by_tasks({number: [1]}, frozenset()))
    await asyncio.sleep(0)  # it has its turn: it adds its tasks, and does not wait yet
    assert watcher._promises
    beginning.cancel()
    await asyncio.wait([beginning])
    assert not (watcher._running or watcher._promises or watcher._by_session)


async def test_a_session_that_is_cancelled_ends_its_waits(
    served: Served, channel: grpc.aio.Channel, world: World
) -> None:
    await world.submit(*(task(f"t{place}", f"k{place}", needs=["never"]) for place in range(50)))
    stub = submitter_service_pb2_grpc.SubmitterStub(channel)
    waits = [
        asyncio.ensure_future(stub.WaitForAvailability(objects_pb2.ResultRequest(session="s", key=f"k{place}")))
        for place in range(50)
    ]
    watcher = served.replica._watcher
    await until(lambda: len(watcher._promises) == 50)
    await stub.CancelSession(submitter_service_pb2.Session(id="s"))
    async with asyncio.timeout(_SOON_S):
        replies = await asyncio.gather(*waits)
    assert {reply.WhichOneof("type") for reply in replies} == {"error"}
    await until(lambda: not (watcher._running or watcher._promises or watcher._by_session))
