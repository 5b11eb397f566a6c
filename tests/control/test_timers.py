"""Timers of a replica: due is due by the clock of the database, whoever set it and whatever fails meanwhile."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from control.replica import BareAgent, Served, serving
from ripieno.control.agents.reminders import REMIND_EVERY_S
from ripieno.control.upkeep import timers as upkeep
from ripieno.control.upkeep.timers import Timers
from ripieno.control.waiting.notices import Notices
from ripieno.domain.options import TaskOptions
from ripieno.store.cluster.signals import News, Signals
from ripieno.store.database.database import Database
from ripieno.store.graph import timers
from ripieno.wire.options import options_to_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import agent_pb2, tasks_pb2, tasks_pb2_grpc
from store.world import World, done, failed, task

_PATIENCE_S = 20.0


def with_free(**free: str) -> TaskOptions:
    return TaskOptions(10_000_000, 2, 50, {f"ripieno.{name}": text for name, text in free.items()})


async def submit(channel: grpc.aio.Channel, *ids: str, of: TaskOptions) -> None:
    """Submit tasks of one output each, of the session ``s``, as a client of version 2 does."""
    requests = [objects_pb2.TaskRequest(id=each, expected_output_keys=[each]) for each in ids]
    await submitter_service_pb2_grpc.SubmitterStub(channel).CreateSmallTasks(
        submitter_service_pb2.CreateSmallTaskRequest(
            session_id="s", task_options=options_to_wire(of), task_requests=requests
        ),
        timeout=_PATIENCE_S,
    )


async def until_statuses(world: World, expected: dict[str, str]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while await world.statuses(*expected) != list(expected.values()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


@asynccontextmanager
async def kept(clock: Timers) -> AsyncIterator[None]:
    """Run the timers of a replica meanwhile."""
    running = asyncio.create_task(clock.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_delayed_task_goes_to_an_agent_when_its_time_has_come(channel: grpc.aio.Channel, world: World) -> None:
    agent = BareAgent(channel)
    await agent.hello(credit=2)
    await submit(channel, "late", of=with_free(delay="0.3"))
    await submit(channel, "now", of=with_free())
    await agent.until(lambda: len(agent.assigned) == 2)
    rows = await world.rows(
        "select t.id, s.claimed_at >= t.submitted_at + interval '0.3 s' from states s join tasks t using (task_no)"
        " order by s.claimed_at"
    )
    assert rows == [("now", False), ("late", True)]
    agent.leave()


async def test_an_agent_is_told_of_a_deadline_until_it_confirms_and_what_it_says_late_is_refused(
    channel: grpc.aio.Channel, world: World
) -> None:
    agent = BareAgent(channel)
    await agent.hello(credit=1)
    await submit(channel, "t", of=with_free(deadline="0.3"))
    await agent.until(lambda: bool(agent.assigned))
    [ticket] = agent.assigned
    await agent.until(lambda: len(agent.cancelled) >= 2)
    assert set(agent.cancelled) == {ticket.claim} and REMIND_EVERY_S < _PATIENCE_S
    await until_statuses(world, {"t": "CANCELLING"})
    completions = agent_pb2.Completions(
        task_nos=[ticket.task_no], session_nos=[ticket.session_no], claims=[ticket.claim], started_at_us=[1],
        workers=["w"], result_counts=[1], keys=["t"], data=[b"late"],
    )  # fmt: skip
    await agent.say(outcomes_no=1, completions=completions)
    await agent.until(lambda: any(message.settled for message in agent.said))
    assert await world.statuses("t") == ["TIMEOUT"] and await world.results("t") == ["ABORTED"]
    [(status, reason)] = await world.reasons("t")
    assert status == "TIMEOUT" and reason.startswith("its deadline (")
    agent.leave()


async def test_what_a_client_may_not_say_is_refused_by_name(channel: grpc.aio.Channel, world: World) -> None:
    for of, why in ((with_free(delay="soon"), "'ripieno.delay'"), (with_free(retries="3"), "'ripieno.retries'")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submit(channel, "t", of=of)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"task_options.options[{why}]" in str(refused.value.details())
    assert await world.statuses("t") == ["-"]


async def test_the_retry_of_a_client_waits_as_it_says(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(task("a", "k"), of=TaskOptions(10_000_000, 0, 50, {"ripieno.delay": "1"}))
    for options, unmet in (
        (tasks_pb2.RetryOptions(), 0),
        (tasks_pb2.RetryOptions(options={"ripieno.delay": "3600"}), 1),
    ):
        await world.rows("update timers set due_at = now()")
        async with asyncio.timeout(_PATIENCE_S):
            while not (claimed := await world.claim()):
                await asyncio.sleep(0.02)
                await world.fire()
        await world.commit(failed(claimed["a"]))
        request = tasks_pb2.RetryRequest(task_ids=["a"], options=options)
        reply = await tasks_pb2_grpc.TasksStub(channel).Retry(request, timeout=_PATIENCE_S)
        assert reply.retried == 1
        assert await world.rows("select unmet from states") == [(unmet,)]


async def test_a_replica_that_ends_leaves_its_timers_to_the_others(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas know of timers from the messages of others, and look without being told only after an hour."""
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 3600.0)
    async with serving(database_url, tmp_path / "objects") as other:
        await other.world.session()
        async with serving(database_url, tmp_path / "objects") as one, one.connect() as channel:
            await until_heard(one, other)
            await submit(channel, "a", of=with_free(delay="1"))
            await told(one)
        async with asyncio.timeout(_PATIENCE_S):
            while not await other.world.claim():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.02)


async def until_heard(*replicas: Served) -> None:
    """Wait until each of the replicas knows that it is not alone."""
    async with asyncio.timeout(_PATIENCE_S):
        while any(notices_of(each)._signals.alone for each in replicas):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def told(replica: Served) -> None:
    """Wait until a replica has told the others what it has changed."""
    async with asyncio.timeout(_PATIENCE_S):
        while notices_of(replica)._pending.is_set() or notices_of(replica).named:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


def notices_of(replica: Served) -> Notices:
    return next(part for part in replica.replica._parts if isinstance(part, Notices))


async def test_timers_wake_for_what_another_replica_has_set(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 3600.0)
    async with Database.open(database_url) as database:
        world, clock = World(database), Timers(database, Notices(Signals(database, "alone")))
        await world.session()
        async with kept(clock):
            for news in (News(due_in_s=0.2), News(everything=True)):
                await world.submit(
                    task(str(news.everything), "k" * (2 if news.everything else 1)), of=with_free(delay="0.2")
                )
                if news.everything:
                    await world.rows("update timers set due_at = now()")
                clock.changed_elsewhere(news)
                async with asyncio.timeout(_PATIENCE_S):
                    while not await world.claim():  # noqa: ASYNC110 - nothing tells of it
                        await asyncio.sleep(0.02)


async def test_a_session_whose_timers_cannot_fire_holds_up_no_other(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault is logged once; when it is over, what was due fires."""
    async with Database.open(database_url) as database:
        world, clock = World(database), Timers(database, Notices(Signals(database, "alone")))
        for session in "stu":
            await world.session(session)
            await world.submit(task(f"late {session}", "k"), session_id=session, of=with_free(delay="0.1"))
            await world.submit(
                task(f"over {session}", "l", needs=["never"]), session_id=session, of=with_free(deadline="0.1")
            )
        async with database.connection() as connection:
            await connection.execute(f"""
                create function refuse() returns trigger language plpgsql as $$
                begin raise exception 'no' using errcode = 'P0001'; end $$;
                create trigger refuse before update on states for each row
                when (new.session_no = {await world.number("s")}) execute function refuse()
            """)
        with caplog.at_level(logging.WARNING):
            async with kept(clock):
                await until_statuses(world, {"over t": "TIMEOUT", "over u": "TIMEOUT", "over s": "SUBMITTED"})
                async with asyncio.timeout(_PATIENCE_S):
                    claimed: set[str] = set()
                    while claimed != {"late t", "late u"}:
                        claimed |= set(await world.claim())
                        await asyncio.sleep(0.02)
                faults = [record for record in caplog.records if "keeping timers" in record.getMessage()]
                assert len(faults) == 1
                await world.rows("drop trigger refuse on states")
                await until_statuses(world, {"over s": "TIMEOUT"})
                async with asyncio.timeout(_PATIENCE_S):
                    while not await world.claim():  # noqa: ASYNC110 - nothing tells of it
                        await asyncio.sleep(0.02)


async def test_idle_timers_ask_once_in_a_while(world: World, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks without timers cause no question, nor do timers that are far away."""
    asked = 0
    before = timers.next_due

    async def counted(database: Database) -> float | None:
        nonlocal asked
        asked += 1
        return await before(database)

    monkeypatch.setattr(timers, "next_due", counted)
    began = time.monotonic()
    async with served.connect() as channel:
        for n in range(20):
            await submit(channel, f"plain {n}", of=with_free())
        await submit(channel, "far", of=with_free(delay="3600", deadline="7200"))
    claimed = await world.claim()
    await world.commit(*(done(each, {each.task_id: b""}) for each in claimed.values()))
    assert len(claimed) == 20 and asked <= 1 + (time.monotonic() - began) / upkeep.LOOK_EVERY_S
