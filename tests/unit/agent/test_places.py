"""Workers with several places: slots of their own, that live and die together."""

import sys
from pathlib import Path

import pytest

from ripieno.agent.attempts.attempt import Verdict
from ripieno.agent.scheduling.slots import Slot, set_places
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.replica import Replica, Task
from unit.agent.running import agent
from unit.agent.test_dispatcher import GRACE_S, FakeLane, House

Reason = agent_pb2.Outcome.Failed
WORKER = f"env PYTHONPATH={Path(__file__).parent} {sys.executable} -m ripieno.worker meeting:handle --concurrency"


def three_places(house: House) -> list[FakeLane]:
    """Give the only worker of a house three places."""
    [slot], [lane] = house.slots, house.lanes
    house.dispatcher.has_places(slot, 3)
    lanes = [lane, *(FakeLane(ahead=True, ours=True) for _ in range(2))]
    for each, face in zip(slot.group, lanes, strict=True):
        house.dispatcher.up(each, face)
    return lanes


def test_slots_are_added_beside_the_worker_s_own_and_removed_again() -> None:
    slots = [Slot("a"), Slot("b")]
    set_places(slots, slots[0], 3)
    assert [slot.name for slot in slots] == ["a", "a", "a", "b"] and slots[0].group == slots[:3]
    set_places(slots, slots[3], 2)
    set_places(slots, slots[0], 1)
    assert [slot.name for slot in slots] == ["a", "b", "b"]
    assert [slot.group for slot in slots] == [slots[:1], slots[1:], slots[1:]]


def test_each_place_gets_an_attempt_and_the_control_plane_is_told_how_many_there_are() -> None:
    house = House()
    lanes = three_places(house)
    message = house.told()
    assert (message.credit, message.slots) == (3, 3)
    attempts = house.assign(3)
    assert sorted(attempt.claim for lane in lanes for attempt in lane.started) == [1, 2, 3]
    assert [len(slot.inbox) for slot in house.slots] == [1, 1, 1]
    for attempt in attempts:
        house.end(attempt)
    assert set(house.outcomes().values()) == {"completed"}
    house.dispatcher.has_places(house.slots[0], 3)
    assert not house.told().HasField("slots"), "the next worker has as many"


def test_a_time_limit_is_that_of_each_attempt() -> None:
    house = House()
    lanes = three_places(house)
    [short] = house.assign(max_duration_s=1.0)
    others = house.assign(2)
    house.tick(1.5)
    assert [attempt for lane in lanes for attempt in lane.interrupted] == [short]
    assert short.verdict is Verdict.TIMEOUT and not any(each.verdict for each in others)


def test_a_worker_that_is_ended_for_one_attempt_uses_up_no_other() -> None:
    house = House()
    three_places(house)
    [stuck] = house.assign(max_duration_s=1.0)
    others = house.assign(2)
    house.tick(1.5)
    house.tick(GRACE_S + 0.1)
    house.dispatcher.down(house.slots[0], "it did not yield")
    assert house.outcomes() == {stuck.claim: "failed"}
    assert all(slot.lane is None and not slot.inbox for slot in house.slots)
    assert not any(each.alone or each.over or each.place for each in others)


def test_a_worker_that_dies_has_failed_what_ran_in_it() -> None:
    house = House(run_s=0.0001)
    three_places(house)
    attempts = [*house.assign(3), *house.assign(1)]
    crowded = next(slot for slot in house.slots if len(slot.inbox) == 2)
    unclear = list(crowded.inbox)
    house.dispatcher.down(house.slots[0], "the worker process ended with exit code 3")
    surely = {attempt.claim: "failed" for attempt in attempts if attempt not in unclear}
    assert house.outcomes() == surely and len(surely) == 2
    assert all(attempt.alone and not attempt.over for attempt in unclear), "nobody can tell which of these ran"


def test_all_places_pause_together() -> None:
    house = House()
    three_places(house)
    house.dispatcher.paused(house.slots[0])
    assert not any(slot.serves for slot in house.slots)


async def test_a_worker_runs_as_many_at_a_time_as_it_says(replica: Replica) -> None:
    """Four meet that each wait for the others, on a worker in one slot; then one is cancelled, and one takes too long."""
    async with agent(replica, worker=f"{WORKER} 4", slots=1):
        replica.submit(*[Task(f"meet {number}", payload=b"meet 4") for number in range(4)])
        for number in range(4):
            assert (await replica.outcome_of(f"meet {number}", 60)).HasField("completed")
        assert replica.slots == [4]
        replica.submit(
            Task("cancelled", payload=b"sleep"),
            Task("slow", payload=b"sleep", max_duration_s=0.2),
            Task("fails", payload=b"fail"),
            Task("fine", payload=b"meet 1"),
        )
        assert (await replica.outcome_of("fails")).failed.detail.endswith("ValueError: it fails")
        assert (await replica.outcome_of("fine")).HasField("completed")
        assert (await replica.outcome_of("slow")).failed.reason == Reason.TIMEOUT
        replica.cancel("cancelled")
        assert (await replica.outcome_of("cancelled")).HasField("cancelled")
        replica.submit(Task("dies", payload=b"die 2"), Task("beside it", payload=b"sleep 2"))
        for name in ("dies", "beside it"):
            assert (await replica.outcome_of(name, 60)).failed.detail.startswith("the worker process ended with exit")
        replica.submit(*[Task(f"again {number}", payload=b"meet 4") for number in range(4)])
        for number in range(4):
            assert (await replica.outcome_of(f"again {number}", 60)).HasField("completed")
    assert all(len(outcomes) == 1 for outcomes in replica.outcomes.values())
    assert replica.slots == [4], "told once: the next worker has as many places"


@pytest.mark.parametrize("places", ["1", "3"])
async def test_many_short_attempts_come_each_to_its_own_end(replica: Replica, places: str) -> None:
    async with agent(replica, worker=f"{WORKER} {places}", slots=2):
        names = [f"t{number}" for number in range(300)]
        replica.submit(*[Task(name, payload=f"echo {name}".encode()) for name in names])
        await replica.until(lambda: all(name in replica.outcomes for name in names), 60)
        for name in names:
            [outcome] = replica.outcomes[name]
            assert [each.data.inline for each in outcome.completed.results] == [f"echo {name}".encode()]
