"""What the control plane keeps of a connected agent: credit, claims, and what is to be sent."""

from ripieno.control.agent_link import AgentLink
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Ticket
from ripieno.store.claim import Claimed

OPTIONS = {7: TaskOptions(1_000_000, 0, 5, {"a": "b"})}
SESSIONS = {3: "s"}


def claimed(number: int, payload: bytes = b"p") -> Claimed:
    return Claimed(Ticket(number, 3, number + 100), 1, f"t{number}", 0, 7, ["k"], [], payload)


async def test_a_claim_under_way_when_credit_is_revoked_leaves_no_debt() -> None:
    link = AgentLink(1, "a", [])
    link.credit = 5
    link.credit = 0  # revoked, while five are being claimed
    link.assign([claimed(number) for number in range(5)], OPTIONS, SESSIONS)
    link.credit += 2
    assert link.credit == 2


async def test_what_gathers_travels_in_one_message_that_explains_itself_once() -> None:
    link = AgentLink(1, "a", [])
    link.settle(4, [])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    message = await link.next_message()
    assert list(message.settled) == [4]
    assert [assignment.task_id for assignment in message.assignments] == ["t1", "t2"]
    assert [session.id for session in message.sessions] == ["s"]
    assert [(entry.options_no, entry.priority, dict(entry.options)) for entry in message.options] == [
        (7, 5, {"a": "b"})
    ]


async def test_large_assignments_are_spread_over_messages_that_each_explain_themselves() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(number, b"x" * 1_500_000) for number in range(3)], OPTIONS, SESSIONS)
    messages = [await link.next_message(), await link.next_message()]
    assert [len(message.assignments) for message in messages] == [2, 1]
    assert all([session.id for session in message.sessions] == ["s"] for message in messages)


async def test_what_was_never_sent_is_known() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1)], OPTIONS, SESSIONS)
    await link.next_message()
    link.assign([claimed(2)], OPTIONS, SESSIONS)
    assert link.unsent() == [Ticket(2, 3, 102)]


async def test_what_was_cancelled_before_it_was_handed_out_is_told_with_it() -> None:
    link = AgentLink(1, "a", [])
    link.cancel([Ticket(1, 3, 101)])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    message = await link.next_message()
    assert [assignment.task_id for assignment in message.assignments] == ["t1", "t2"]
    assert [ticket.claim for ticket in message.cancelled] == [101]


async def test_what_is_cancelled_after_it_was_handed_out_is_told() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1)], OPTIONS, SESSIONS)
    link.cancel([Ticket(1, 3, 101)])
    assert [ticket.claim for ticket in (await link.next_message()).cancelled] == [101]


async def test_claims_are_known_until_they_are_settled() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    link.settle(1, [101])
    assert link.claims == {102}
