"""The stream to the control plane: reconnecting, held tickets, settling, draining."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import TOY, agent, teach
from unit.agent.test_lanes import inline_result


@pytest_asyncio.fixture
async def other() -> AsyncIterator[Replica]:
    replica = Replica()
    await replica.start()
    yield replica
    await replica.stop()


async def test_hello_and_first_credit(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address, address + "x"), partitions=("gpu",)):
        (hello,) = replica.hellos
        assert (len(hello.agent_id), hello.name, hello.slots, list(hello.partitions)) == (16, "agent", 2, ["gpu"])
        await replica.until(lambda: replica.credit == 1)  # for the slot that serves


async def test_what_runs_goes_on_when_the_replica_goes(replica: Replica, other: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,), control=(replica.address, other.address)):
        replica.submit(Task("t", payload=b"nap:0.3"))
        await replica.until(lambda: "t" in replica.started)
        ticket = replica.ticket_of("t")
        other.claims = replica.claims
        await replica.stop()
        await other.until(lambda: bool(other.hellos))
        assert other.hellos[0].held == [ticket]
        assert other.hellos[0].agent_id == replica.hellos[0].agent_id
        assert (await other.outcome_of("t")).ticket == ticket
        other.submit(Task("next"))
        await other.outcome_of("next")


async def test_a_congested_agent_asks_for_more_once_its_outcomes_are_settled(
    replica: Replica, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it has nothing in hand any more, so that nothing else reminds it."""
    monkeypatch.setattr("ripieno.agent.scheduling.outcome_outbox.MAX_UNSETTLED", 0)
    _, address = await serve(batch=True)
    replica.settling = False
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t"))
        await replica.outcome_of("t")
        replica.submit(*(Task(f"t{number}") for number in range(replica.credit + 1)))
        last = replica.queue[-1].id
        await replica.until(lambda: len(replica.outcomes) == len(replica.assigned))
        assert last not in replica.assigned
        replica.tell(agent_pb2.ControlMessage(settled=range(1, 100)))
        await replica.outcome_of(last)


async def test_outcomes_are_sent_again_until_settled(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    replica.settling = False
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"x"))
        await replica.outcome_of("t")
        await replica.stop()
        await replica.start()
        replica.settling = True
        await replica.until(lambda: len(replica.outcomes["t"]) == 2)
        assert [ticket.claim for ticket in replica.hellos[1].held] == [1]
        assert replica.outcomes["t"][0] == replica.outcomes["t"][1]
        replica.submit(Task("next"))
        await replica.outcome_of("next")
    assert len(replica.outcomes["t"]) == 2


async def test_lost_outcomes_are_not_sent_again(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    replica.settling = False
    async with agent(replica, attach=(address,)):
        replica.submit(Task("lost", payload=b"x"))
        await replica.outcome_of("lost")
        replica.submit(Task("kept", payload=b"x"))
        await replica.outcome_of("kept")
        replica.lose("lost")
        replica.submit(Task("after", payload=b"x"))
        await replica.outcome_of("after")
        await replica.stop()
        await replica.start()
        replica.settling = True
        await replica.until(lambda: len(replica.outcomes["kept"]) == 2)
    assert len(replica.outcomes["lost"]) == 1


async def test_a_draining_replica_is_left_for_another(replica: Replica, other: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,), control=(replica.address, other.address)):
        replica.tell(agent_pb2.ControlMessage(draining=True))
        await other.until(lambda: bool(other.hellos))
        other.submit(Task("t"))
        await other.outcome_of("t")


async def test_a_control_plane_that_is_not_up_yet(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    await replica.stop()
    starting = asyncio.create_task(_start_later(replica))
    async with agent(replica, attach=(address,)):
        await starting
        replica.submit(Task("t", payload=b"x"))
        assert inline_result(await replica.outcome_of("t")) == b"x"


async def _start_later(replica: Replica) -> None:
    await asyncio.sleep(0.2)
    await replica.start()


async def test_fetching_survives_a_replica_that_goes(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    replica.results = {"d": b"data"}
    replica.answering.clear()
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"data", dependencies=("d",)))
        await replica.until(lambda: bool(replica.fetches))
        await replica.stop()
        replica.answering.set()
        await replica.start()
        assert inline_result(await replica.outcome_of("t")) == b"data"
    assert replica.fetches == [["d"], ["d"]]


async def test_draining_lets_what_runs_finish_and_gives_back_the_rest(replica: Replica, serve: Serve) -> None:
    worker, address = await serve(batch=True)
    async with agent(replica, attach=(address,)) as running:
        await teach(replica, 0.1)  # so that it has the patience to keep one waiting, too
        replica.submit(Task("runs", payload=b"nap:0.3"), Task("waits", payload=b"x"))
        await replica.until(lambda: "runs" in replica.started)
        assert "waits" in replica.assigned and not replica.released
        await running.stop()
    assert replica.draining
    assert replica.outcomes["runs"][0].HasField("completed")
    assert replica.released == ["waits"]
    assert worker.ids == ["teacher", "runs"]


async def test_draining_ends_in_time(replica: Replica, serve: Serve) -> None:
    worker, address = await serve(batch=False)
    async with agent(replica, attach=(address,), drain_s=0.2) as running:
        replica.submit(Task("runs", payload=b"nap:60"))
        await replica.until(lambda: "runs" in replica.started)
        await running.stop()
    assert replica.released == ["runs"]
    assert worker.cancelled == ["runs"]
    assert not replica.outcomes


async def test_draining_without_a_control_plane_ends(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)) as running:
        await replica.stop()
        await running.stop()
    await replica.start()


async def test_nothing_is_fetched_ahead_before_a_run_time_is_known(replica: Replica, serve: Serve) -> None:
    """G28: what is submitted while the first task runs goes by priority."""
    worker, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        await replica.until(lambda: replica.credit == 1)
        replica.submit(Task("long", payload=b"nap:0.5"), Task("1"))
        await replica.until(lambda: "long" in replica.started)
        assert replica.assigned == ["long"] and replica.credit == replica.revoked == 0
        replica.queue[:0] = [Task("99"), Task("50")]
        await replica.until(lambda: "1" in replica.outcomes)
    assert worker.ids == ["long", "99", "50", "1"]


async def test_urgent_tasks_overtake_behind_a_long_one(replica: Replica, serve: Serve) -> None:
    """G28: an agent whose only worker is busy for long holds nothing that could be overtaken, and is owed nothing."""
    worker, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        await teach(replica, 0.001)
        replica.submit(Task("long", payload=b"nap:0.5"), Task("1"))
        assert replica.assigned == ["teacher", "long", "1"] and replica.credit > 0
        await replica.until(lambda: replica.released == ["1"])
        assert replica.credit == 0 and replica.revoked == 1
        replica.queue[:] = [Task("99"), Task("50"), Task("1 again")]
        await replica.until(lambda: "1 again" in replica.outcomes)
    assert worker.ids == ["teacher", "long", "99", "50", "1 again"]


# ------------------------------------------------------------------ when something says no


async def test_a_message_that_the_replica_refuses_for_its_size_is_cut_and_the_last_one_fails(
    replica: Replica, other: Replica, serve: Serve
) -> None:
    """A replica that takes less than agents send, as an older one might."""
    await replica.stop()
    replica.largest_message_bytes = 50_000
    await replica.start()
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.settling = False
        replica.submit(*[Task(f"t{number}", payload=b"big:40000") for number in range(3)])
        large = Task("large", payload=b"data", dependencies=("d",))
        replica.results = {"d": bytes(60_000)}
        replica.submit(large)
        await replica.until(lambda: len(replica.assigned) == 4)
        replica.settling = True
        outcome = await replica.outcome_of("large")
        assert outcome.failed.reason == agent_pb2.Outcome.Failed.OUTPUT
        assert "larger than max" in outcome.failed.detail
        for number in range(3):
            assert (await replica.outcome_of(f"t{number}")).HasField("completed")
        replica.submit(Task("next"))
        await replica.outcome_of("next")
    assert len(replica.hellos) < 10


async def test_a_stream_that_only_breaks_is_not_opened_without_pause(
    replica: Replica, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.ending = True  # right after each Welcome
        replica.tell(agent_pb2.ControlMessage(draining=True))
        await replica.until(lambda: len(replica.hellos) > 2)
        before = len(replica.hellos)
        await asyncio.sleep(2.0)  # what is measured is how often
        assert len(replica.hellos) - before <= 5
        replica.ending = False
        replica.submit(Task("t"))
        await replica.outcome_of("t")
    assert caplog.text.count("does not work") == 1


async def test_what_cannot_be_read_goes_back_and_spoils_nothing(
    replica: Replica, serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a newer control plane, say: each assignment alone, and the stream stays."""
    monkeypatch.setattr("ripieno.agent.uplink.uplink.AGAIN_AFTER_S", 0.05)
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.claims |= {77: Task("no session"), 78: Task("no options"), 79: Task("columns")}
        message = agent_pb2.ControlMessage(
            assignments=[
                agent_pb2.Assignment(ticket=agent_pb2.Ticket(task_no=77, session_no=5, claim=77), options_no=1),
                agent_pb2.Assignment(ticket=agent_pb2.Ticket(task_no=78, session_no=1, claim=78), options_no=9),
            ],
            plain=agent_pb2.PlainAssignments(task_nos=[79], session_nos=[1], claims=[79], task_ids=["t", "u"]),
        )
        message.sessions.add(session_no=1, id="session-1")
        message.options.add(options_no=1, max_duration_us=1_000_000)
        replica.queue.clear()
        replica.tell(message)
        await replica.until(lambda: len(replica.released) == 3)
        assert sorted(replica.released) == ["columns", "no options", "no session"]
        replica.tell(message)
        await replica.until(lambda: len(replica.released) == 6)
        replica.queue.clear()
        replica.submit(Task("t"))
        await replica.outcome_of("t")
    assert len(replica.hellos) == 1
    assert caplog.text.count("cannot be read") == 1, "told each time"


async def test_a_message_that_cannot_be_taken_in_breaks_the_stream_and_nothing_else(
    replica: Replica, serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):

        def fails(self: object, numbers: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("a bug")

        monkeypatch.setattr("ripieno.agent.scheduling.outcome_outbox.Outbox.settled", fails)
        replica.submit(Task("t"))
        await replica.until(lambda: len(replica.hellos) == 2)
        replica.submit(Task("next"))
        await replica.outcome_of("next")
    assert len(replica.outcomes["t"]) == 2, "told again on the new stream"
    assert caplog.text.count("RuntimeError: a bug") == 1


async def test_long_names_are_cut(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,), name="n" * 100_000):
        replica.submit(Task("t"))
        outcome = await replica.outcome_of("t")
    assert len(replica.hellos[0].name.encode()) <= 256 and len(outcome.worker.encode()) <= 256


async def test_an_agent_that_stood_still_does_not_count_that_time(replica: Replica) -> None:
    """What its workers said meanwhile is heard before anybody is judged to be late."""
    async with agent(replica, worker=TOY + " batch", slots=1):
        replica.submit(Task("t", payload=b"nap:0.5", max_duration_s=1.0))
        await replica.until(lambda: "t" in replica.started)
        time.sleep(2.5)  # noqa: ASYNC251 - as if this process had been stopped
        outcome = await replica.outcome_of("t")
        assert outcome.HasField("completed"), outcome.failed.detail
        replica.submit(Task("late", payload=b"nap:3", max_duration_s=0.3))
        outcome = await replica.outcome_of("late")
    assert outcome.failed.reason == agent_pb2.Outcome.Failed.TIMEOUT
