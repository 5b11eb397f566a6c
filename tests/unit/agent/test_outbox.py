"""What is told, what is kept, what is told again."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from ripieno.agent.attempt import Attempt, RunOptions, Verdict
from ripieno.agent.outbox import MAX_OUTCOME_BYTES, MAX_UNSETTLED, MESSAGE_BYTES, Outbox
from ripieno.domain.data import StoredObject
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Completed, Failed, Failure, SubTasks
from ripieno.domain.submission import NewTask
from ripieno.wire.protos.v1 import agent_pb2


def attempt(claim: int = 1) -> Attempt:
    made = Attempt(10 + claim, 5, claim, "s", "t", "t", RunOptions({}, 1.0), ["k"], (), b"")
    made.started_at_us, made.worker = 7, "w"
    return made


def claims(message: agent_pb2.AgentMessage | None) -> list[int]:
    assert message is not None
    return [outcome.ticket.claim for outcome in message.outcomes]


def complete(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.over(attempt(number), Completed([("k", b"v")]), 9)


def test_a_completed_attempt_on_the_wire() -> None:
    outbox = Outbox()
    task = NewTask("sub", ("k",), ("d",), StoredObject("p", 3, b"digest"))
    options = TaskOptions(1_500_000, 2, 3, {"o": "v"})
    how = Completed(
        [("k", b"v"), ("l", StoredObject("n", 9, b"d"))], [SubTasks(options, [task]), SubTasks(None, [task])]
    )
    outbox.over(attempt(), how, 9)
    message = outbox.take()
    assert message is not None and message.outcomes_no == 1
    (outcome,) = message.outcomes
    assert (outcome.ticket.task_no, outcome.ticket.session_no, outcome.ticket.claim) == (11, 5, 1)
    assert (outcome.started_at_us, outcome.ended_at_us, outcome.worker) == (7, 9, "w")
    first, second = outcome.completed.results
    assert (first.key, first.data.inline) == ("k", b"v")
    assert (second.data.object.name, second.data.object.size, second.data.object.sha256) == ("n", 9, b"d")
    with_options, without = outcome.completed.sub_tasks
    assert (with_options.options.max_duration.seconds, with_options.options.max_duration.nanos) == (1, 500_000_000)
    assert not without.HasField("options")
    assert (with_options.tasks[0].id, with_options.tasks[0].payload.object.name) == ("sub", "p")


def test_empty_results_and_ok_without_results() -> None:
    outbox = Outbox()
    outbox.over(attempt(1), Completed([("k", b"")]), 9)
    outbox.over(attempt(2), Completed(), 9)
    message = outbox.take()
    assert message is not None
    assert message.outcomes[0].completed.results[0].data.WhichOneof("where") == "inline"
    assert message.outcomes[1].WhichOneof("how") == "completed"


def test_a_verdict_outweighs_what_the_worker_says() -> None:
    outbox = Outbox()
    for number, verdict in enumerate(Verdict):
        one = attempt(number)
        one.verdict, one.detail = verdict, verdict.name
        outbox.over(one, Completed([("k", b"v")]), 9)
    message = outbox.take()
    assert message is not None
    cancelled, timeout, failed = message.outcomes
    assert cancelled.HasField("cancelled")
    assert (timeout.failed.reason, timeout.failed.detail) == (agent_pb2.Outcome.Failed.TIMEOUT, "TIMEOUT")
    assert failed.failed.reason == agent_pb2.Outcome.Failed.ATTEMPT
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


@settings(deadline=None)  # the machine may be busy
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
        outbox.over(attempt(number), Completed([("k", bytes(MESSAGE_BYTES // 4))]), 9)
    sizes = []
    while (message := outbox.take()) is not None:
        sizes.append(len(message.outcomes))
    assert sizes == [4, 4, 1]


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
        outbox.over(attempt(number), Completed([("k", bytes(MESSAGE_BYTES))]), 9)
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


@given(st.lists(st.sampled_from(["over", "take", "settle", "reconnect", "drop", "grant"]), max_size=40))
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
    for failure in Failure:
        outbox.over(attempt(), Failed(failure, failure.value), 9)
    message = outbox.take()
    assert message is not None
    reasons = agent_pb2.Outcome.Failed
    assert [outcome.failed.reason for outcome in message.outcomes] == [reasons.ATTEMPT, reasons.TIMEOUT, reasons.OUTPUT]


def test_an_outcome_too_long_to_be_committed_is_a_final_failure() -> None:
    outbox = Outbox()
    tasks = [NewTask("t" * 1000 + str(number), ("k",), (), b"") for number in range(MAX_OUTCOME_BYTES // 1000)]
    outbox.over(attempt(), Completed([], [SubTasks(None, tasks)]), 9)
    message = outbox.take()
    assert message is not None
    (outcome,) = message.outcomes
    assert outcome.failed.reason == agent_pb2.Outcome.Failed.OUTPUT
    assert "create fewer sub-tasks" in outcome.failed.detail
    assert message.ByteSize() < 1000
