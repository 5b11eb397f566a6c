"""The dispatcher: which attempt goes where, and that each ends exactly once. No sockets, no clock."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.agent.attempts.attempt import Attempt, RunOptions, Verdict
from ripieno.agent.scheduling.dispatcher import UNSERVED_S, Dispatcher
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.pace import LONG_S, SHORT_AHEAD_S
from ripieno.agent.scheduling.placement import STUCK_S
from ripieno.agent.scheduling.slots import Lane, Slot
from ripieno.domain.data import StoredObject
from ripieno.domain.outcomes import Completed, Failed, Failure
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.outcomes import outcomes_of

GRACE_S = 2.0


class FakeLane:
    def __init__(self, *, ahead: bool, ours: bool) -> None:
        self.ahead = ahead
        self.ours = ours
        self.started: list[Attempt] = []
        self.withdrawn: list[Attempt] = []
        self.interrupted: list[Attempt] = []
        self.killed: int = 0

    @property
    def faces(self) -> Sequence[Lane]:
        return (self,)

    def start(self, attempts: Sequence[Attempt]) -> None:
        self.started += attempts

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        self.withdrawn += attempts

    def interrupt(self, attempt: Attempt) -> None:
        self.interrupted.append(attempt)

    def kill(self, reason: str) -> bool:
        self.killed += self.ours
        return self.ours


class House:
    """A dispatcher with fake lanes and a clock that is turned by hand."""

    def __init__(self, slots: int = 1, *, ahead: bool = True, ours: bool = True, run_s: float = 0.0) -> None:
        self.now = 100.0
        self.outbox = Outbox()
        self.slots = [Slot(f"w{number}") for number in range(slots)]
        self.dispatcher = Dispatcher(self.outbox, self.slots, GRACE_S, lambda: self.now)
        self.dispatcher.pace.run_s = run_s
        self.lanes = [FakeLane(ahead=ahead, ours=ours) for _ in self.slots]
        self.claims = 0
        for slot, lane in zip(self.slots, self.lanes, strict=True):
            self.dispatcher.up(slot, lane)

    def assign(
        self, count: int = 1, *, max_duration_s: float = 60.0, payload: bytes = b"", priority: int = 0
    ) -> list[Attempt]:
        attempts = []
        for _ in range(count):
            self.claims += 1
            name = f"t{self.claims}"
            options = RunOptions({}, max_duration_s, priority)
            attempts.append(Attempt(self.claims, 1, self.claims, "s", name, name, options, ["k"], (), payload))
        self.dispatcher.assigned(attempts)
        return attempts

    def end(self, attempt: Attempt, how: Completed | Failed | None = None) -> None:
        slot = next(slot for slot in self.slots if attempt in slot.inbox)
        since = slot.head_since
        self.dispatcher.left(slot, attempt, self.now, int(self.now * 1e6))
        self.dispatcher.finish(attempt, how or Completed())
        self.dispatcher.progressed(self.now - since, 1)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.dispatcher.tick(self.now)

    def told(self) -> agent_pb2.AgentMessage:
        whole = agent_pb2.AgentMessage()
        while (message := self.outbox.take()) is not None:
            whole.MergeFrom(message)
        return whole

    def outcomes(self) -> dict[int, str | None]:
        return {outcome.ticket.claim: outcome.WhichOneof("how") for outcome in outcomes_of(self.told())}


def claims_of(tickets: Sequence[agent_pb2.Ticket]) -> list[int]:
    return [ticket.claim for ticket in tickets]


# ------------------------------------------------------------------ placing


def test_the_first_credit_is_one_a_slot_and_grows() -> None:
    house = House(slots=3)
    assert house.told().credit == 3
    attempts = house.assign(3)
    assert [len(slot.inbox) for slot in house.slots] == [1, 1, 1]
    assert house.told().credit == house.outbox.credit_out == 0
    for attempt in attempts:
        house.now += 0.0001
        house.end(attempt)
    assert house.outbox.credit_out > 100


def regular(house: House, run_s: float) -> None:
    """Let it learn that attempts run for so long."""
    for _ in range(20):
        (attempt,) = house.assign()
        house.now += run_s
        house.end(attempt)


def test_the_next_is_fetched_and_put_behind_just_before_the_end() -> None:
    house = House()
    regular(house, 1.0)
    (runs,) = house.assign()
    house.told()
    house.tick(0.9)
    assert house.told().credit == 0
    house.tick(0.06)
    assert house.told().credit == 1
    (following,) = house.assign()
    assert list(house.slots[0].inbox) == [runs, following]
    house.end(runs)
    assert list(house.slots[0].inbox) == [following]


def test_what_waits_makes_room_for_what_is_more_urgent() -> None:
    house = House(ahead=False, run_s=0.001)
    (runs,) = house.assign()
    low, middle = house.assign(priority=1)[0], house.assign(priority=50)[0]
    house.told()
    house.dispatcher.urgent(50)
    assert claims_of(house.told().released) == [low.claim]
    (high,) = house.assign(priority=99)
    house.end(runs)
    assert list(house.slots[0].inbox) == [high]
    house.end(high)
    assert list(house.slots[0].inbox) == [middle]


def test_what_was_on_its_way_when_credit_was_revoked_goes_back() -> None:
    """What was given back then may be more urgent; no more is asked for before the control plane has heard."""
    house = House(run_s=0.001)
    (runs,) = house.assign()
    house.told()
    house.tick(LONG_S)
    assert house.told().credit_revoked and house.outbox.revoking
    late = house.assign(2)
    house.end(runs)
    told = house.told()
    assert claims_of(told.released) == [attempt.claim for attempt in late] and not told.credit
    house.outbox.heard(1)
    house.tick()
    assert house.told().credit > 0 and not house.outbox.revoking


def test_workers_that_stand_idle_are_asked_for_anew() -> None:
    """In case their credit was lost on the way: what is granted after it counts from nothing."""
    house = House(slots=2)
    house.assign()
    granted = house.told().credit
    assert granted > 0
    house.dispatcher.ask_anew()
    assert house.told().credit_revoked
    house.outbox.heard(1)
    house.tick()
    assert house.told().credit > 0


def test_busy_workers_are_not_asked_for_anew() -> None:
    house = House(slots=2)
    house.assign(2)
    house.told()
    house.dispatcher.ask_anew()
    assert not house.outbox.revoking


def test_what_was_put_behind_one_that_does_not_end_is_given_back() -> None:
    house = House()
    regular(house, 1.0)
    (runs,) = house.assign()
    house.tick(0.96)
    (following,) = house.assign()
    assert house.lanes[0].withdrawn == []
    house.tick(0.2)
    assert house.lanes[0].withdrawn == [following]
    house.dispatcher.withdrawn(house.slots[0], [following])
    assert claims_of(house.told().released) == [following.claim]
    assert list(house.slots[0].inbox) == [runs]


def test_nothing_lies_behind_the_first_attempt_of_a_worker_before_a_run_time_is_known() -> None:
    house = House()
    first, second = house.assign(2)
    assert house.lanes[0].started == [first]
    house.now += 0.001
    house.end(first)
    assert house.lanes[0].started == [first, second]
    (third,) = house.assign()
    assert list(house.slots[0].inbox) == [second, third]


def test_credit_is_granted_by_quarters() -> None:
    house = House(slots=2, run_s=0.001)
    wanted = len(house.assign(house.outbox.credit_out))
    house.told()
    grants = []
    for _ in range(wanted // 4):
        slot = house.slots[0]
        attempt = slot.inbox[0]
        house.dispatcher.left(slot, attempt, house.now, 1)
        house.dispatcher.finish(attempt, Completed())
        house.dispatcher.pump()
        grants.append(house.told().credit)
    assert wanted == 32
    assert grants == [0] * 7 + [8]


def test_no_worker_idles_for_the_rest_of_a_quarter() -> None:
    house = House(slots=8, run_s=LONG_S * 2)
    attempts = house.assign(house.outbox.credit_out)
    assert len(attempts) == 8
    house.told()
    house.now += LONG_S * 0.9
    house.end(attempts[0])  # a quarter would be two
    assert house.told().credit == 1
    house.end(attempts[1])
    assert house.told().credit == 1
    assert house.outbox.credit_out == 2


def test_no_credit_without_a_worker() -> None:
    house = House()
    house.told()
    house.dispatcher.paused(house.slots[0])
    house.outbox.credit_out = 0
    house.dispatcher.pump()
    assert house.told().credit == 0


def test_work_is_spread_evenly() -> None:
    house = House(slots=2, run_s=0.0001)
    house.assign(10)
    assert [len(slot.inbox) for slot in house.slots] == [5, 5]


def test_one_at_a_time_for_a_worker_that_takes_nothing_ahead() -> None:
    house = House(ahead=False, run_s=0.0001)
    first, *others = house.assign(3)
    assert house.lanes[0].started == [first]
    house.end(first)
    assert house.lanes[0].started == [first, others[0]]


def test_a_large_attempt_is_sent_when_it_is_next() -> None:
    house = House(run_s=0.0001)
    small = house.assign(2)
    (large,) = house.assign(payload=b"")
    large.large = True  # as the data side marks it
    house.dispatcher._waiting.append(large)
    house.slots[0].inbox.remove(large)
    house.lanes[0].started.remove(large)
    (after,) = house.assign()
    assert house.lanes[0].started == small
    house.end(small[0])
    house.end(small[1])
    assert house.lanes[0].started == [*small, large]
    house.end(large)
    assert house.lanes[0].started == [*small, large, after]


def test_attempts_with_data_are_prepared_first() -> None:
    house = House()
    preparing: list[Attempt] = []
    house.dispatcher.prepare = preparing.extend
    stored = Attempt(1, 1, 1, "s", "t", "t", RunOptions({}, 1.0), ["k"], (), StoredObject("n", 1, b""))
    needing = Attempt(2, 1, 2, "s", "u", "u", RunOptions({}, 1.0), ["k"], ["d"], b"")
    house.dispatcher.assigned([stored, needing])
    assert preparing == [stored, needing] and not house.lanes[0].started
    house.dispatcher.prepared(needing)
    house.dispatcher.pump()
    assert house.lanes[0].started == [needing]
    house.dispatcher.unprepared(stored, "gone")
    assert house.outcomes() == {1: "failed"}
    house.dispatcher.prepared(stored)  # too late
    house.dispatcher.pump()
    assert house.lanes[0].started == [needing]


def test_more_urgent_attempts_go_first() -> None:
    house = House(ahead=False)
    busy, *_ = house.assign()
    low, high, middle = (house.assign(priority=priority)[0] for priority in (1, 99, 50))
    (equal,) = house.assign(priority=50)
    for expected in (high, middle, equal, low):
        house.end(house.lanes[0].started[-1])
        assert house.lanes[0].started[-1] is expected
    assert house.lanes[0].started[0] is busy


def test_an_urgent_attempt_does_not_wait_behind_one_that_was_sent_ahead() -> None:
    house = House(run_s=0.005)
    head, ahead = house.assign(2)
    (urgent,) = house.assign(priority=9)
    house.tick(STUCK_S * 1.1)
    assert house.lanes[0].withdrawn == [ahead]
    house.dispatcher.withdrawn(house.slots[0], [ahead])
    house.end(head)
    assert house.lanes[0].started[2:] == [urgent, ahead]


# ------------------------------------------------------------------ long attempts


def test_what_waits_behind_a_long_attempt_goes_to_an_idle_slot() -> None:
    house = House(slots=2, run_s=0.001)
    one, other, behind_one, behind_other = house.assign(4)
    assert list(house.slots[0].inbox) == [one, other]
    house.end(behind_one)
    house.end(behind_other)
    house.tick(STUCK_S * 1.1)
    assert house.lanes[0].withdrawn == [other]
    house.tick()
    assert house.lanes[0].withdrawn == [other]  # asked once
    house.dispatcher.withdrawn(house.slots[0], [other])
    assert list(house.slots[1].inbox) == [other]
    assert list(house.slots[0].inbox) == [one]


def test_with_all_slots_busy_for_long_the_rest_is_given_back() -> None:
    house = House(run_s=0.001)
    head, *others = house.assign(20)
    sent = [attempt for attempt in others if attempt in house.slots[0].inbox]
    waiting = [attempt for attempt in others if attempt not in house.slots[0].inbox]
    house.told()
    house.tick(SHORT_AHEAD_S * 0.9)
    assert not house.lanes[0].withdrawn and not house.told().released
    house.tick(SHORT_AHEAD_S * 0.2)
    told = house.told()
    assert house.lanes[0].withdrawn == sent
    assert claims_of(told.released) == [attempt.claim for attempt in waiting]
    assert told.credit == 0
    house.dispatcher.withdrawn(house.slots[0], sent)
    house.tick(0.01)
    assert claims_of(house.told().released) == [attempt.claim for attempt in sent]
    house.end(head)
    assert house.told().credit >= 1


def test_with_all_slots_busy_for_long_unused_credit_is_taken_back() -> None:
    house = House(slots=2, run_s=0.001)
    one, other = house.assign(2)
    assert house.outbox.credit_out > 2
    house.told()
    house.now += 0.015
    house.end(one)
    (one,) = house.assign()
    house.told()
    house.tick(0.015)  # the other one has been running for 30 ms, this one for 15 ms
    assert not house.told().credit_revoked and house.outbox.credit_out > 0
    house.tick(0.02)
    told = house.told()
    assert told.credit_revoked and told.credit == house.outbox.credit_out == 0
    house.tick(0.01)
    assert not house.told().credit_revoked  # told once
    house.outbox.heard(1)
    house.end(other)
    told = house.told()
    assert not told.credit_revoked and told.credit == house.outbox.credit_out >= 1


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("run_s", [0.0, 0.05, 0.2, 0.29])
def test_a_task_is_not_taken_and_given_back_again_and_again(run_s: float, *, ahead: bool) -> None:
    """An attempt that runs longer than was thought is not for that reason about to end."""
    house = House(ahead=ahead, run_s=run_s)
    house.assign(1)
    taken, waiting = 0, 1
    for _ in range(300):
        house.tick(0.01)
        told = house.told()
        waiting += len(told.released)
        if house.lanes[0].withdrawn:
            house.dispatcher.withdrawn(house.slots[0], house.lanes[0].withdrawn)
            house.lanes[0].withdrawn = []
        if told.credit_revoked:
            house.outbox.heard(house.outbox._revocations)
            house.outbox.credit_out = 0
        if waiting and house.outbox.credit_out:
            house.assign(1)
            taken, waiting = taken + 1, 0
    assert taken <= 3


def test_assignments_that_were_on_their_way_when_credit_was_taken_back() -> None:
    house = House(run_s=0.001)
    (head,) = house.assign()
    house.tick(SHORT_AHEAD_S * 1.1)
    assert house.told().credit_revoked
    late = house.assign(2)
    told = house.told()
    assert claims_of(told.released) == [attempt.claim for attempt in late]
    assert told.credit == house.outbox.credit_out == 0
    house.outbox.heard(1)
    house.end(head)
    assert house.told().credit == house.outbox.credit_out >= 1  # nothing is thought to be owed for them


def test_patience_grows_with_the_mean() -> None:
    house = House(run_s=0.05)
    head, behind = house.assign(2)
    house.told()
    house.tick(0.14)
    told = house.told()
    assert not told.credit_revoked and not house.lanes[0].withdrawn
    house.tick(0.02)
    assert house.told().credit_revoked and house.lanes[0].withdrawn == [behind]
    assert house.slots[0].inbox[0] is head


def test_behind_one_of_a_worker_that_takes_nothing_ahead_less_patience_is_needed() -> None:
    house = House(ahead=False, run_s=0.001)
    _, *others = house.assign(3)
    house.told()
    house.tick(0.004)
    assert not house.told().released
    house.tick(0.002)
    told = house.told()
    assert claims_of(told.released) == [attempt.claim for attempt in others]
    assert told.credit == 0
    (late,) = house.assign()
    assert claims_of(house.told().released) == [late.claim]


def test_long_attempts_are_reported_as_started_once() -> None:
    house = House()
    (attempt,) = house.assign()
    house.tick(0.02)
    assert not house.told().started
    house.tick(0.02)
    (started,) = house.told().started
    assert (started.ticket.claim, started.worker) == (attempt.claim, "w0")
    assert started.at_us > 0
    house.tick(0.02)
    assert not house.told().started


# ------------------------------------------------------------------ ends before their time


def test_time_limit() -> None:
    house = House()
    (attempt,) = house.assign(max_duration_s=0.5)
    house.tick(0.4)
    assert not house.lanes[0].interrupted
    house.tick(0.2)
    assert house.lanes[0].interrupted == [attempt]
    house.told()
    house.end(attempt, Completed([("k", b"late")]))
    (outcome,) = outcomes_of(house.told())
    assert outcome.failed.reason == agent_pb2.Outcome.Failed.TIMEOUT


def test_a_worker_of_ours_that_does_not_yield_is_killed() -> None:
    house = House(run_s=0.001)
    attempt, behind = house.assign(2, max_duration_s=0.05)
    house.tick(0.06)
    house.tick(GRACE_S * 0.9)
    assert house.lanes[0].killed == 0
    house.tick(GRACE_S * 0.2)
    assert house.lanes[0].killed > 0
    house.dispatcher.down(house.slots[0], "killed")
    assert house.outcomes() == {attempt.claim: "failed"}
    assert not behind.alone  # it cannot have begun
    assert behind.claim in house.dispatcher.attempts


def test_an_attached_worker_that_does_not_yield_is_left_alone() -> None:
    house = House(ours=False, run_s=0.001)
    attempt, behind = house.assign(2, max_duration_s=0.05)
    house.tick(0.06)
    house.tick(GRACE_S * 1.1)
    assert house.outcomes() == {attempt.claim: "failed"}
    assert behind in house.lanes[0].withdrawn
    house.dispatcher.withdrawn(house.slots[0], [behind])
    assert len(house.lanes[0].started) == 2
    house.end(attempt)  # at last
    assert house.outcomes() == {}
    assert house.lanes[0].started[-1] is behind


def test_cancelling_what_waits_runs_and_lies_in_between() -> None:
    house = House(run_s=0.005)
    runs, sent, waits = house.assign(3)
    assert list(house.slots[0].inbox) == [runs, sent]
    house.told()
    house.dispatcher.cancelled([runs, sent, waits])
    told = house.told()
    assert claims_of(told.interrupting) == [runs.claim]
    assert {outcome.ticket.claim: outcome.started_at_us for outcome in outcomes_of(told)} == {waits.claim: 0}
    assert house.lanes[0].interrupted == [runs, sent]
    house.dispatcher.withdrawn(house.slots[0], [sent])
    assert house.outcomes() == {sent.claim: "cancelled"}
    house.end(runs)
    assert house.outcomes() == {runs.claim: "cancelled"}


def test_a_cancelled_attempt_that_begins_after_all_is_interrupted() -> None:
    house = House(run_s=0.005)
    runs, sent = house.assign(2)
    house.dispatcher.cancelled([sent])
    assert not house.told().interrupting
    house.end(runs)
    assert claims_of(house.told().interrupting) == [sent.claim]
    house.end(sent)
    assert house.outcomes() == {sent.claim: "cancelled"}


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (Verdict.TIMEOUT, Verdict.CANCELLED, Verdict.CANCELLED),
        (Verdict.CANCELLED, Verdict.TIMEOUT, Verdict.CANCELLED),
        (Verdict.CANCELLED, Verdict.LOST, Verdict.LOST),
        (Verdict.LOST, Verdict.CANCELLED, Verdict.LOST),
        (Verdict.TIMEOUT, Verdict.RELEASED, Verdict.TIMEOUT),
    ],
)
def test_which_verdict_stands(first: Verdict, second: Verdict, left: Verdict) -> None:
    house = House()
    (attempt,) = house.assign()
    house.dispatcher.condemn(attempt, first, "first")
    house.dispatcher.condemn(attempt, second, "second")
    assert attempt.verdict is left
    assert house.lanes[0].interrupted == [attempt]


# ------------------------------------------------------------------ workers that die


def test_a_death_with_one_attempt() -> None:
    house = House()
    (attempt,) = house.assign()
    house.told()
    house.dispatcher.down(house.slots[0], "it died")
    (outcome,) = outcomes_of(house.told())
    assert (outcome.ticket.claim, outcome.failed.detail) == (attempt.claim, "it died")


def test_a_death_with_several_attempts_runs_each_alone() -> None:
    house = House(run_s=0.001)
    attempts = house.assign(3)
    house.told()
    house.dispatcher.down(house.slots[0], "it died")
    assert house.outcomes() == {}
    house.lanes[0].started.clear()
    house.dispatcher.up(house.slots[0], house.lanes[0])
    assert house.lanes[0].started == attempts[:1]
    house.end(attempts[0])
    assert house.lanes[0].started == attempts[:2]
    house.dispatcher.down(house.slots[0], "it died again")
    assert house.outcomes() == {attempts[0].claim: "completed", attempts[1].claim: "failed"}
    house.dispatcher.up(house.slots[0], house.lanes[0])
    house.end(attempts[2])
    assert not house.dispatcher.attempts


def test_a_worker_that_was_never_reached_uses_nothing_up() -> None:
    house = House(run_s=0.001)
    attempts = house.assign(2)
    house.dispatcher.down(house.slots[0], "not there", blameless=True)
    assert house.outcomes() == {} and not any(attempt.alone for attempt in attempts)


def test_without_workers_for_long_what_waits_is_given_back() -> None:
    house = House(run_s=0.001)
    attempts = house.assign(2)
    house.tick()
    house.dispatcher.down(house.slots[0], "gone")
    house.told()
    house.tick(UNSERVED_S * 0.9)
    assert not house.told().released
    house.tick(UNSERVED_S * 0.2)
    assert claims_of(house.told().released) == [attempt.claim for attempt in attempts]


# ------------------------------------------------------------------ draining


def test_draining() -> None:
    house = House(run_s=0.005)
    runs, sent, waits = house.assign(3)
    house.told()
    house.dispatcher.drain()
    told = house.told()
    assert told.draining and claims_of(told.released) == [waits.claim]
    house.dispatcher.withdrawn(house.slots[0], [sent])
    (late,) = house.assign()
    assert claims_of(house.told().released) == [sent.claim, late.claim]
    assert not house.dispatcher.idle.is_set()
    house.end(runs)
    assert house.outcomes() == {runs.claim: "completed"}
    assert house.dispatcher.idle.is_set()


def test_draining_out_of_time() -> None:
    house = House()
    (runs,) = house.assign()
    house.dispatcher.drain()
    house.dispatcher.interrupt_all()
    assert house.lanes[0].interrupted == [runs]
    house.end(runs)
    assert claims_of(house.told().released) == [runs.claim]


# ------------------------------------------------------------------ any story

_EVENTS = ["assign", "end", "fail", "tick", "long", "down", "up", "cancel", "lose", "withdraw", "left", "drain"]
_EVENTS += ["unfit", "fit", "still"]


@given(st.lists(st.sampled_from(_EVENTS), max_size=60), st.integers(0, 1 << 30), st.booleans(), st.booleans())
def test_each_attempt_ends_exactly_once(story: list[str], seed: int, ahead: bool, ours: bool) -> None:
    """AGENT-1, whatever happens in whatever order."""
    luck = random.Random(seed)
    house = House(slots=2, ahead=ahead, ours=ours, run_s=0.001)
    dispatcher = house.dispatcher
    ends: dict[int, int] = {}
    lost: set[int] = set()

    def count() -> None:
        told = house.told()
        for claim in [*(outcome.ticket.claim for outcome in outcomes_of(told)), *claims_of(told.released)]:
            ends[claim] = ends.get(claim, 0) + 1

    for event in [*story, "drain", "end", "end"]:
        slot = luck.choice(house.slots)
        lane = house.lanes[house.slots.index(slot)]
        in_hand = list(dispatcher.attempts.values())
        if event == "assign":
            house.assign(
                luck.randint(1, 5), payload=bytes(luck.randint(0, 9)), max_duration_s=luck.choice([0.05, 60.0])
            )
        elif event in ("end", "fail") and slot.inbox and slot.lane:
            house.end(slot.inbox[0], Failed(Failure.ATTEMPT, "x") if event == "fail" else None)
        elif event == "left" and slot.inbox and slot.lane and slot.inbox[0].verdict is None:
            dispatcher.left(slot, slot.inbox[0], house.now, 1)  # its data is being stored
        elif event in ("tick", "long"):
            house.tick(0.02 if event == "tick" else GRACE_S * 1.1)
        elif event == "down":
            dispatcher.down(slot, "died", blameless=luck.random() < 0.3)
        elif event == "up" and slot.lane is None:
            dispatcher.up(slot, lane)
        elif event in ("cancel", "lose") and in_hand:
            chosen = luck.choice(in_hand)
            if event == "lose":
                lost.add(chosen.claim)
                dispatcher.lost([chosen.claim])
            else:
                dispatcher.cancelled([chosen])
        elif event in ("unfit", "fit"):
            dispatcher.becomes_fit(event == "fit")
        elif event == "still":
            house.now += 5.0
            dispatcher.stood_still(5.0)
        elif event == "withdraw":
            back = [a for a in [*lane.withdrawn, *lane.interrupted] if a in list(slot.inbox)[1:]]
            dispatcher.withdrawn(slot, list(dict.fromkeys(back)))
        elif event == "drain":
            dispatcher.drain()
        count()
        for one in house.slots:
            assert len(set(map(id, one.inbox))) == len(one.inbox)
        assert house.outbox.credit_out >= 0
        assert dispatcher.held_bytes == sum(attempt.weight for attempt in dispatcher.attempts.values())
        held = [attempt for one in house.slots for attempt in one.inbox] + list(dispatcher._waiting)
        assert len(set(map(id, held))) == len(held)
        assert not any(attempt.over for attempt in dispatcher._waiting)
    dispatcher.interrupt_all()
    for slot in house.slots:
        dispatcher.down(slot, "the end")
    count()
    assert not dispatcher.attempts
    for claim in range(1, house.claims + 1):
        assert ends.get(claim, 0) == (0 if claim in lost and claim not in ends else 1)


# ------------------------------------------------------------------ when something says no


def test_a_cancellation_that_is_told_again_is_answered_again() -> None:
    """Whatever of it was lost: the answer, the attempt, or neither."""
    house = House(run_s=0.005)
    runs, sent = house.assign(2)
    never_came = agent_pb2.Ticket(task_no=77, session_no=1, claim=77)
    for _ in range(2):
        house.dispatcher.cancelled([runs, sent, never_came])
        told = house.told()
        assert (claims_of(told.interrupting), claims_of(told.released)) == ([runs.claim], [77])
        assert house.lanes[0].interrupted == [runs, sent], "interrupted once"
    house.end(runs)
    message = house.outbox.take()
    house.dispatcher.cancelled([runs])
    assert message is not None and house.told() == agent_pb2.AgentMessage(), "its end says it, once it is settled"
    house.outbox.settled([message.outcomes_no])
    house.dispatcher.cancelled([runs])
    assert claims_of(house.told().released) == [runs.claim]


def test_an_attempt_that_timed_out_and_is_cancelled_is_answered() -> None:
    house = House(run_s=0.005)
    (runs,) = house.assign(1, max_duration_s=0.05)
    house.tick(0.06)
    house.told()
    house.dispatcher.cancelled([runs])
    assert claims_of(house.told().interrupting) == [runs.claim]
    assert house.lanes[0].interrupted == [runs]


def test_time_during_which_the_agent_stood_still_counts_for_no_attempt() -> None:
    house = House(run_s=0.005)
    runs, _ = house.assign(2, max_duration_s=1.0)
    house.tick(0.9)
    house.now += 15.0
    house.dispatcher.stood_still(15.0)
    verdicts = []
    for _ in range(2):
        house.tick(0.07)
        verdicts.append(runs.verdict)
    assert verdicts == [None, Verdict.TIMEOUT]
    house.now += 15.0
    house.dispatcher.stood_still(15.0)
    killed = []
    for seconds in (GRACE_S / 2, GRACE_S):  # its worker may have stood still, too
        house.tick(seconds)
        killed.append(house.lanes[0].killed)
    assert killed == [0, 1]


def test_standing_still_gives_nothing_back() -> None:
    house = House()
    house.dispatcher.paused(house.slots[0])
    house.told()
    (waits,) = house.assign(1)
    house.now += 15.0
    house.dispatcher.stood_still(15.0)
    house.tick(0.01)
    assert not house.told().released and waits.claim in house.dispatcher.attempts
    house.tick(UNSERVED_S + 0.1)
    assert claims_of(house.told().released) == [waits.claim]


def test_an_unfit_machine_gives_back_what_has_not_begun_and_takes_nothing() -> None:
    house = House(run_s=0.005)
    runs, sent, waits = house.assign(3)
    house.told()
    house.dispatcher.becomes_fit(False)
    told = house.told()
    assert claims_of(told.released) == [waits.claim] and house.outbox.credit_out == 0
    house.dispatcher.withdrawn(house.slots[0], [sent])
    assert claims_of(house.told().released) == [sent.claim]
    (late,) = house.assign(1)  # was on its way
    house.tick(0.01)
    told = house.told()
    assert claims_of(told.released) == [late.claim] and not told.credit
    house.end(runs)
    told = house.told()
    assert [outcome.WhichOneof("how") for outcome in outcomes_of(told)] == ["completed"] and not told.credit
    house.outbox.heard(1)
    house.dispatcher.becomes_fit(True)
    assert house.told().credit > 0


def test_attempts_larger_than_was_thought_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripieno.agent.scheduling.dispatcher.HELD_BYTES", 1_000)
    house = House(slots=2, ahead=False, run_s=0.001)
    house.told()
    urgent = house.assign(2, payload=bytes(100), priority=9)
    held = house.assign(20, payload=bytes(100))
    told = house.told()
    assert house.dispatcher.held_bytes <= 1_000
    kept = [attempt for attempt in held if attempt.claim in house.dispatcher.attempts]
    assert kept == held[: len(kept)] and len(kept) >= 2, "the first stay"
    assert claims_of(told.released) == [attempt.claim for attempt in reversed(held[len(kept) :])]
    for attempt in [*urgent, *kept]:
        house.end(attempt)
    assert house.dispatcher.held_bytes == 0 and house.told().credit > 0


def test_each_worker_has_an_attempt_however_large_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripieno.agent.scheduling.dispatcher.HELD_BYTES", 1_000)
    house = House(slots=4, ahead=False, run_s=0.001)
    attempts = house.assign(4, payload=bytes(5_000))
    assert all(attempt.claim in house.dispatcher.attempts for attempt in attempts)
    assert house.told().credit_revoked
    house.outbox.heard(1)
    house.end(attempts[0])
    assert house.told().credit == 1


def test_nothing_is_begun_while_too_much_is_unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripieno.agent.scheduling.outcome_outbox.MAX_UNSETTLED_BYTES", 1_000)
    house = House(ahead=False, run_s=0.001)
    first, second = house.assign(2)
    house.dispatcher.left(house.slots[0], first, house.now, 1)
    house.dispatcher.finish(first, Completed([("k", bytes(3_000))]))
    message = house.outbox.take()
    house.tick(0.01)
    assert message is not None and house.lanes[0].started == [first]
    house.outbox.settled([message.outcomes_no])
    house.tick(0.01)
    assert house.lanes[0].started == [first, second]
