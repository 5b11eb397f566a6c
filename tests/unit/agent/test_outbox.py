"""What is told, what is kept, what is told again."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.agent.attempts.attempt import Attempt, RunOptions, Verdict
from ripieno.agent.conversation.gathering import MAX_OUTCOME_BYTES
from ripieno.agent.scheduling.outcome_outbox import MAX_UNSETTLED, MESSAGE_BYTES, Outbox
from ripieno.domain.data import StoredObject
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Completed, Failed, Failure, SubTasks
from ripieno.domain.output import AttemptOutput
from ripieno.domain.submission import NewTask
from ripieno.domain.texts import REASON_LIMIT_BYTES
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.outcomes import outcomes_of

#: A deadline is the control plane's to notice: its agent is told that the task is cancelled.
FOUND_BY_AGENTS = [failure for failure in Failure if failure is not Failure.DEADLINE]


def attempt(claim: int = 1) -> Attempt:
    made = Attempt(10 + claim, 5, claim, "s", "t", "t", RunOptions({}, 1.0), ["k"], (), b"")
    made.started_at_us, made.worker = 7, "w"
    return made


def claims(message: agent_pb2.AgentMessage | None) -> list[int]:
    assert message is not None
    return [outcome.ticket.claim for outcome in outcomes_of(message)]


def complete(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.over(attempt(number), Completed([("k", b"v")]))


def test_a_completed_attempt_on_the_wire() -> None:
    outbox = Outbox()
    task = NewTask("sub", ("k",), ("d",), StoredObject("p", 3, b"digest"))
    options = TaskOptions(1_500_000, 2, 3, {"o": "v"})
    how = Completed(
        [("k", b"v"), ("l", StoredObject("n", 9, b"d"))], [SubTasks(options, [task]), SubTasks(None, [task])]
    )
    outbox.over(attempt(), how)
    message = outbox.take()
    assert message is not None and message.outcomes_no == 1
    (outcome,) = outcomes_of(message)
    assert (outcome.ticket.task_no, outcome.ticket.session_no, outcome.ticket.claim) == (11, 5, 1)
    assert (outcome.started_at_us, outcome.worker) == (7, "w")
    first, second = outcome.completed.results
    assert (first.key, first.data.inline) == ("k", b"v")
    assert (second.data.object.name, second.data.object.size, second.data.object.sha256) == ("n", 9, b"d")
    with_options, without = outcome.completed.sub_tasks
    assert (with_options.options.max_duration.seconds, with_options.options.max_duration.nanos) == (1, 500_000_000)
    assert not without.HasField("options")
    assert (with_options.tasks[0].id, with_options.tasks[0].payload.object.name) == ("sub", "p")


def test_what_an_attempt_has_printed_goes_with_its_end() -> None:
    """However it ends; but of one that is given back nothing is kept."""
    outbox = Outbox()
    ends: list[tuple[Verdict | None, Completed | Failed]] = [
        (None, Completed([("k", b"v")])),
        (None, Failed(Failure.ATTEMPT, "boom")),
    ]
    ends += [(verdict, Completed()) for verdict in (Verdict.CANCELLED, Verdict.TIMEOUT, Verdict.RELEASED)]
    for claim, (verdict, how) in enumerate(ends, start=1):
        ended = attempt(claim)
        ended.verdict, ended.output = verdict, AttemptOutput(b"out of %d" % claim, b"", 5, 0)
        outbox.over(ended, how)
    outbox.over(attempt(9), Completed())
    message = outbox.take()
    assert message is not None
    printed = {each.ticket.claim: each.output.stdout for each in outcomes_of(message) if each.HasField("output")}
    assert printed == {claim: b"out of %d" % claim for claim in (1, 2, 3, 4)}
    assert message.ByteSize() < sum(outbox._sizes.values()) + 200
    outbox.drop({1, 2})
    again = outbox.reconnected()
    assert {each.claim for each in again} == {3, 4, 9}
    [left] = [each for each in outcomes_of(outbox.take() or message) if each.ticket.claim == 3]
    assert left.output.stdout_left_out == 5


def test_much_output_fills_messages_as_much_data_does() -> None:
    outbox = Outbox()
    for claim in range(1, 6):
        ended = attempt(claim)
        ended.output = AttemptOutput(b"x" * (MESSAGE_BYTES // 2))
        outbox.over(ended, Completed())
    sizes = []
    while (message := outbox.take()) is not None:
        sizes.append(message.ByteSize())
    assert len(sizes) == 5 and max(sizes) <= MESSAGE_BYTES


def test_empty_results_and_ok_without_results() -> None:
    outbox = Outbox()
    outbox.over(attempt(1), Completed([("k", b"")]))
    outbox.over(attempt(2), Completed())
    message = outbox.take()
    assert message is not None
    empty, none = outcomes_of(message)
    assert [(result.key, result.data.WhichOneof("where")) for result in empty.completed.results] == [("k", "inline")]
    assert none.WhichOneof("how") == "completed" and not none.completed.results


def test_small_results_travel_as_columns_and_whatever_else_as_outcomes() -> None:
    outbox = Outbox()
    stored = StoredObject("n", 9, b"d")
    outbox.over(attempt(1), Completed([("k", b"v"), ("l", b"w")]))
    outbox.over(attempt(2), Completed([("k", b"v"), ("l", stored)]))
    outbox.over(attempt(3), Completed([("k", b"v")], [SubTasks(None, [NewTask("sub", (), (), b"")])]))
    outbox.over(attempt(4), Failed(Failure.ATTEMPT, "it broke"))
    outbox.over(attempt(5), Completed())
    message = outbox.take()
    assert message is not None and message.outcomes_no == 1
    assert [outcome.ticket.claim for outcome in message.outcomes] == [2, 3, 4]
    assert message.completions == agent_pb2.Completions(
        task_nos=[11, 15],
        session_nos=[5, 5],
        claims=[1, 5],
        started_at_us=[7, 7],
        workers=["w", "w"],
        result_counts=[2, 0],
        keys=["k", "l"],
        data=[b"v", b"w"],
    )


@pytest.mark.parametrize(("results", "plain"), [(100, True), (101, False)])
def test_an_outcome_of_many_results_is_measured(results: int, plain: bool) -> None:
    """And so travels apart, where it can be refused."""
    outbox = Outbox()
    outbox.over(attempt(), Completed([(f"k{number}", b"v") for number in range(results)]))
    message = outbox.take()
    assert message is not None and bool(message.completions.claims) is plain
    (outcome,) = outcomes_of(message)
    assert [result.key for result in outcome.completed.results] == [f"k{number}" for number in range(results)]


def test_a_verdict_outweighs_what_the_worker_says() -> None:
    outbox = Outbox()
    for number, verdict in enumerate(Verdict):
        one = attempt(number)
        one.verdict, one.detail = verdict, verdict.name
        outbox.over(one, Completed([("k", b"v")]))
    message = outbox.take()
    assert message is not None
    cancelled, timeout, failed, refused = outcomes_of(message)
    assert cancelled.HasField("cancelled")
    assert (timeout.failed.reason, timeout.failed.detail) == (agent_pb2.Outcome.Failed.TIMEOUT, "TIMEOUT")
    assert failed.failed.reason == agent_pb2.Outcome.Failed.ATTEMPT
    assert refused.failed.reason == agent_pb2.Outcome.Failed.OUTPUT
    assert [ticket.claim for ticket in message.released] == [list(Verdict).index(Verdict.RELEASED)]


def test_everything_gathers_until_taken() -> None:
    outbox = Outbox()
    assert outbox.take() is None and not outbox.waiting.is_set()
    complete(outbox, 1, 2)
    outbox.grant(3)
    outbox.grant(2)
    outbox.started(attempt(3))
    outbox.interrupting(attempt(4))
    message = outbox.take()
    assert message is not None and claims(message) == [1, 2]
    assert (message.credit, outbox.credit_out, len(message.started), len(message.interrupting)) == (5, 5, 1, 1)
    assert outbox.take() is None and not outbox.waiting.is_set()


def test_without_outcomes_there_is_no_number() -> None:
    outbox = Outbox()
    outbox.grant(1)
    message = outbox.take()
    assert message is not None and message.outcomes_no == 0
    assert outbox.reconnected() == [] and outbox.take() is None


def test_unused_credit_is_taken_back() -> None:
    outbox = Outbox()
    outbox.revoke()  # there is none
    assert outbox.take() is None
    outbox.grant(3)
    assert outbox.take() is not None
    outbox.grant(2)  # not sent yet, so it never is
    outbox.revoke()
    outbox.revoke()
    assert outbox.credit_out == 0
    message = outbox.take()
    assert message is not None and message.credit_revoked and message.credit == 0
    outbox.revoke()
    assert outbox.take() is None


def test_what_is_granted_after_it_was_taken_back_counts() -> None:
    outbox = Outbox()
    outbox.grant(3)
    outbox.revoke()
    outbox.grant(2)
    message = outbox.take()
    assert message is not None and message.credit_revoked and message.credit == outbox.credit_out == 2


def test_credit_is_neither_granted_nor_taken_back_again_on_another_stream() -> None:
    outbox = Outbox()
    outbox.grant(3)
    outbox.revoke()
    outbox.grant(1)
    complete(outbox, 1)
    outbox.take()
    outbox.reconnected()
    outbox.grant(2)
    again, new = outbox.take(), outbox.take()
    assert again is not None and claims(again) == [1] and not again.credit and not again.credit_revoked
    assert new is not None and new.credit == outbox.credit_out == 2


_CREDIT_EVENTS = ["grant", "assign", "arrive", "revoke", "take", "large", "reconnect"]


@given(st.lists(st.sampled_from(_CREDIT_EVENTS), max_size=40))
def test_an_agent_never_waits_for_more_than_it_is_owed(story: list[str]) -> None:
    """Both ends agree on the credit, unless assignments crossed with its revocation: then there may be more of it."""
    outbox = Outbox()
    there = on_their_way = 0
    revoking = crossed = False

    def deliver() -> None:
        nonlocal there, revoking
        message = outbox.take()
        if message is not None:
            there = message.credit + (0 if message.credit_revoked else there)
            revoking = revoking and not message.credit_revoked

    def arrive() -> None:
        nonlocal on_their_way
        outbox.credit_out = max(0, outbox.credit_out - on_their_way)  # as the dispatcher does
        on_their_way = 0

    for event in story:
        if event == "grant":
            outbox.grant(2)
        elif event == "assign" and there:
            there -= 1
            on_their_way += 1
            crossed |= revoking
        elif event == "arrive":
            arrive()
        elif event == "revoke":
            crossed |= on_their_way > 0
            revoking |= outbox.credit_out > 0
            outbox.revoke()
        elif event == "take":
            deliver()
        elif event == "large":  # so that one message is closed and another one begun
            complete(outbox, 1)
            outbox._grow(MESSAGE_BYTES + 1)
        elif event == "reconnect":
            outbox.reconnected()
            there = on_their_way = 0
            revoking = crossed = False
        assert outbox.credit_out >= 0
    while outbox.waiting.is_set():
        deliver()
    arrive()
    assert there >= outbox.credit_out if crossed else there == outbox.credit_out


def test_messages_are_bounded() -> None:
    outbox = Outbox()
    for number in range(9):
        outbox.over(attempt(number), Completed([("k", bytes(MESSAGE_BYTES // 4))]))
    sizes = []
    while (message := outbox.take()) is not None:
        sizes.append(len(outcomes_of(message)))
    assert sizes == [3, 3, 3]


def test_columns_and_outcomes_fill_a_message_together() -> None:
    outbox = Outbox()
    for number in range(4):
        complete(outbox, 10 + number)
        outbox.over(attempt(number), Completed([("k", bytes(MESSAGE_BYTES // 3))]))
        outbox.over(attempt(20 + number), Failed(Failure.ATTEMPT, "it broke"))
    messages = []
    while (message := outbox.take()) is not None:
        messages.append(message)
    # Closed before the third large result, which begins the next one.
    assert [sorted(claims(message)) for message in messages] == [[0, 1, 10, 11, 12, 20, 21], [2, 3, 13, 22, 23]]
    assert [message.outcomes_no for message in messages] == [1, 2]
    assert all(message.ByteSize() <= MESSAGE_BYTES for message in messages)


def test_columns_that_wait_wake_the_uplink() -> None:
    outbox = Outbox()
    complete(outbox, 1)
    assert outbox.waiting.is_set()
    assert claims(outbox.take()) == [1]
    assert not outbox.waiting.is_set() and outbox.take() is None


def test_the_tickets_of_columns_are_held() -> None:
    outbox = Outbox()
    complete(outbox, 1)
    outbox.over(attempt(2), Failed(Failure.ATTEMPT, "it broke"))
    outbox.take()
    complete(outbox, 3)
    held = outbox.reconnected()
    assert sorted((ticket.task_no, ticket.session_no, ticket.claim) for ticket in held) == [
        (11, 5, 1),
        (12, 5, 2),
        (13, 5, 3),
    ]
    assert [sorted(claims(outbox.take())) for _ in range(2)] == [[1, 2], [3]]


def test_unsettled_outcomes_are_sent_again_after_a_reconnect() -> None:
    outbox = Outbox()
    complete(outbox, 1)
    outbox.grant(4)
    first = outbox.take()
    complete(outbox, 2)
    assert claims(outbox.take()) == [2]
    complete(outbox, 3)  # not sent yet
    assert first is not None and outbox.settled([first.outcomes_no]) == [first]
    held = outbox.reconnected()
    assert [ticket.claim for ticket in held] == [2, 3]
    assert outbox.credit_out == 0
    again, new = outbox.take(), outbox.take()
    assert claims(again) == [2] and claims(new) == [3]
    assert again is not None and again.credit == 0
    assert outbox.take() is None


def test_lost_outcomes_are_dropped_wherever_they_are() -> None:
    outbox = Outbox()
    complete(outbox, 1, 2)
    outbox.take()
    complete(outbox, 3, 4)
    outbox.drop({1, 3})
    assert [ticket.claim for ticket in outbox.reconnected()] == [2, 4]
    outbox.drop({2})
    message = outbox.take()
    assert claims(message) == []
    assert message is not None and message.outcomes_no == 0
    assert claims(outbox.take()) == [4]


def several(outbox: Outbox, *numbers: int) -> None:
    """Attempts with as many results as their number says, so that columns differ in length."""
    for number in numbers:
        outbox.over(attempt(number), Completed([(f"k{number}-{n}", b"%d" % n) for n in range(number)]))


def produced(message: agent_pb2.AgentMessage | None) -> dict[int, list[str]]:
    assert message is not None
    return {o.ticket.claim: [result.key for result in o.completed.results] for o in outcomes_of(message)}


@pytest.mark.parametrize("where", ["open", "closed", "unsettled"])
def test_what_is_dropped_leaves_the_results_of_its_neighbours_alone(where: str) -> None:
    outbox = Outbox()
    several(outbox, 2, 0, 3, 1)
    if where == "closed":
        outbox._grow(MESSAGE_BYTES + 1)
    elif where == "unsettled":
        outbox.take()
    outbox.drop({0, 3, 99})
    if where == "unsettled":
        assert [ticket.claim for ticket in outbox.reconnected()] == [2, 1]
    message = outbox.take()
    assert produced(message) == {2: ["k2-0", "k2-1"], 1: ["k1-0"]}
    assert message is not None and message.outcomes_no == 1
    assert [agreed.outcomes_no for agreed in outbox.settled([1])] == [1]
    assert outbox.reconnected() == []


@pytest.mark.parametrize("where", ["open", "closed", "unsettled"])
async def test_nothing_is_owed_once_all_was_dropped(where: str) -> None:
    outbox = Outbox()
    several(outbox, 1, 2)
    outbox.over(attempt(3), Failed(Failure.ATTEMPT, "it broke"))
    if where == "closed":
        outbox._grow(MESSAGE_BYTES + 1)
    elif where == "unsettled":
        outbox.take()
    outbox.drop({1})
    outbox.drop({2, 3})
    assert outbox.reconnected() == []
    while (message := outbox.take()) is not None:
        assert claims(message) == [] and message.outcomes_no == 0
    await asyncio.wait_for(outbox.emptied(), 1)


def test_settling_and_dropping_take_off_as_much_as_was_counted() -> None:
    """However often: else an agent would stop asking for work one day."""
    outbox = Outbox()
    for turn in range(3):
        several(outbox, *range(10))
        outbox.over(attempt(10), Failed(Failure.ATTEMPT, "it broke"))
        message = outbox.take()
        assert message is not None and outbox._unsettled_count == 11
        if turn != 1:
            outbox.drop({4, 10})
            assert outbox._unsettled_count == 9
        if turn != 2:
            outbox.settled([message.outcomes_no])
        else:
            outbox.drop(set(range(10)))
        assert (outbox._unsettled_count, outbox._unsettled_bytes) == (0, 0)


def test_too_much_unsettled_is_congestion() -> None:
    outbox = Outbox()
    complete(outbox, *range(MAX_UNSETTLED + 1))
    message = outbox.take()
    congested = [outbox.congested]
    assert message is not None
    outbox.settled([message.outcomes_no])
    congested.append(outbox.congested)
    assert congested == [True, False]
    for number in range(11):
        outbox.over(attempt(number), Completed([("k", bytes(MESSAGE_BYTES))]))
        outbox.take()
    assert outbox.congested


async def test_emptied_waits_for_the_last_settlement() -> None:
    outbox = Outbox()
    outbox.draining()
    await asyncio.wait_for(outbox.emptied(), 1)
    complete(outbox, 1)
    waiting = asyncio.create_task(outbox.emptied())
    message = outbox.take()
    await asyncio.sleep(0)
    assert message is not None and not waiting.done()
    outbox.settled([message.outcomes_no])
    await asyncio.wait_for(waiting, 1)


@given(
    st.lists(st.sampled_from(["over", "fail", "take", "close", "settle", "reconnect", "drop", "grant"]), max_size=40)
)
def test_no_outcome_is_forgotten_before_it_is_settled_or_lost(story: list[str]) -> None:
    outbox = Outbox()
    owed: set[int] = set()
    delivered: dict[int, list[int]] = {}
    number = 0
    for event in story:
        if event == "over":
            number += 1
            owed.add(number)
            complete(outbox, number)
        elif event == "fail":
            number += 1
            owed.add(number)
            outbox.over(attempt(number), Failed(Failure.ATTEMPT, "it broke"))
        elif event == "close":
            outbox._grow(MESSAGE_BYTES + 1)
        elif event == "take":
            message = outbox.take()
            if message is not None and message.outcomes_no:
                delivered[message.outcomes_no] = claims(message)
        elif event == "settle" and delivered:
            no = min(delivered)
            outbox.settled([no])
            owed -= set(delivered.pop(no))
        elif event == "reconnect":
            held = [ticket.claim for ticket in outbox.reconnected()]
            assert sorted(held) == sorted(owed)
            delivered.clear()
        elif event == "drop" and owed:
            lost = min(owed)
            owed.discard(lost)
            outbox.drop({lost})
        elif event == "grant":
            outbox.grant(1)
    assert sorted(ticket.claim for ticket in outbox.reconnected()) == sorted(owed)


def test_failures_on_the_wire() -> None:
    outbox = Outbox()
    for failure in FOUND_BY_AGENTS:
        outbox.over(attempt(), Failed(failure, failure.value))
    message = outbox.take()
    assert message is not None
    reasons = agent_pb2.Outcome.Failed
    assert [outcome.failed.reason for outcome in outcomes_of(message)] == [
        reasons.ATTEMPT,
        reasons.TIMEOUT,
        reasons.OUTPUT,
    ]


def test_an_outcome_too_long_to_be_committed_is_a_final_failure() -> None:
    outbox = Outbox()
    tasks = [NewTask("t" * 1000 + str(number), ("k",), (), b"") for number in range(MAX_OUTCOME_BYTES // 1000)]
    outbox.over(attempt(), Completed([], [SubTasks(None, tasks)]))
    message = outbox.take()
    assert message is not None
    (outcome,) = outcomes_of(message)
    assert outcome.failed.reason == agent_pb2.Outcome.Failed.OUTPUT
    assert "create fewer sub-tasks" in outcome.failed.detail
    assert message.ByteSize() < 1000


def test_a_reason_is_cut_and_can_be_written_whatever_is_in_it() -> None:
    outbox = Outbox()
    told = 40 * 1024 * 1024
    for number, detail in enumerate(("x" * told, "\N{BUG}" * (told // 4), "a name that is no text: \udce9", "")):
        for failure in FOUND_BY_AGENTS:
            outbox.over(attempt(number), Failed(failure, detail))
    one = attempt(9)
    one.verdict, one.detail = Verdict.TIMEOUT, "y" * told
    outbox.over(one, Failed(Failure.ATTEMPT, ""))
    message = outbox.take()
    assert message is not None and outbox.take() is None
    details = [outcome.failed.detail for outcome in outcomes_of(message)]
    assert all(len(detail.encode()) <= REASON_LIMIT_BYTES for detail in details)
    assert [len(detail) > REASON_LIMIT_BYTES // 5 for detail in details] == [True] * 6 + [False] * 6 + [True]
    assert message.ByteSize() < 14 * (REASON_LIMIT_BYTES + 200)


def test_no_message_is_longer_than_allowed_but_for_one_outcome() -> None:
    outbox = Outbox()
    sub_tasks = [SubTasks(None, [NewTask(f"t{number}", ("k" * 1_000,), (), b"p" * 60_000) for number in range(300)])]
    for number in range(3):
        complete(outbox, number)
        outbox.over(attempt(10 + number), Completed([], sub_tasks))
        outbox.over(attempt(20 + number), Failed(Failure.OUTPUT, "no"))
    sizes = []
    while (message := outbox.take()) is not None:
        sizes.append((message.ByteSize() > MESSAGE_BYTES, len(outcomes_of(message))))
    assert sizes == [(False, 1), (True, 1), (False, 2), (True, 1), (False, 2), (True, 1), (False, 1)]


def test_a_message_that_is_refused_for_its_size_goes_in_halves_and_at_last_as_a_failure() -> None:
    outbox = Outbox()
    outbox.over(attempt(1), Completed([("k", bytes(10))]))
    outbox.over(attempt(2), Completed([("k", bytes(2_000_000))]))
    outbox.over(attempt(3), Completed([("k", StoredObject("n", 9, b"d"))]))
    outbox.released(attempt(4))
    limit = 1_000_000  # of a control plane that takes less than ours
    assert outbox.take() is not None

    heard: dict[int, agent_pb2.Outcome] = {}
    released = refusals = 0
    for _ in range(10):
        outbox.reconnected()
        while (message := outbox.take()) is not None:
            if message.ByteSize() > limit:
                outbox.too_large("larger than max")
                refusals += 1
                break
            heard |= {outcome.ticket.claim: outcome for outcome in outcomes_of(message)}
            released += len(message.released)
            outbox.settled([message.outcomes_no])
    assert {claim: outcome.WhichOneof("how") for claim, outcome in heard.items()} == {
        1: "completed",
        2: "failed",
        3: "completed",
    }
    failed = heard[2].failed
    assert failed.reason == agent_pb2.Outcome.Failed.OUTPUT and "larger than max" in failed.detail
    assert "2000" in failed.detail and heard[2].worker == "w" and refusals == 3
    assert released == 1 and not outbox.congested
    assert (outbox._unsettled_count, outbox._unsettled_bytes) == (0, 0)


def test_a_size_is_refused_when_nothing_was_told() -> None:
    outbox = Outbox()
    outbox.too_large("larger than max")
    assert outbox.take() is None


async def test_emptied_ends_when_the_last_outcome_is_lost() -> None:
    outbox = Outbox()
    complete(outbox, 1)
    outbox.take()
    waiting = asyncio.create_task(outbox.emptied())
    await asyncio.sleep(0)
    outbox.drop({1})
    await asyncio.wait_for(waiting, 1)
