"""What the control plane keeps of a connected agent: credit, claims, and what is to be sent."""

import asyncio
from collections.abc import Sequence

import pytest

from ripieno.control.agents.agent_link import AgentLink
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.claim import Claimed
from ripieno.wire.protos.v1 import agent_pb2
from unit.control.assignments import assignments_of

OPTIONS = {7: TaskOptions(1_000_000, 0, 5, {"a": "b"})}
SESSIONS = {3: "s"}


def claimed(number: int, payload: Data = b"p", needs: Sequence[str] = (), outputs: Sequence[str] = ("k",)) -> Claimed:
    return Claimed(Ticket(number, 3, number + 100), 1, f"t{number}", 0, 7, outputs, needs, payload)


def sent(message: agent_pb2.ControlMessage) -> list[str]:
    return [assignment.task_id for assignment in assignments_of(message)]


def explained(message: agent_pb2.ControlMessage) -> tuple[list[int], list[int]]:
    """Numbers of the sessions and of the options that a message tells."""
    return [entry.session_no for entry in message.sessions], [entry.options_no for entry in message.options]


async def test_what_gathers_travels_in_one_message_that_explains_itself_once() -> None:
    link = AgentLink(1, "a", [])
    link.settle(4, [])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    message = await link.next_message()
    assert list(message.settled) == [4]
    assert [assignment.task_id for assignment in assignments_of(message)] == ["t1", "t2"]
    assert [session.id for session in message.sessions] == ["s"]
    assert [(entry.options_no, entry.priority, dict(entry.options)) for entry in message.options] == [
        (7, 5, {"a": "b"})
    ]


async def test_large_assignments_are_spread_over_messages_that_each_explain_themselves() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(number, b"x" * 1_500_000) for number in range(3)], OPTIONS, SESSIONS)
    messages = [await link.next_message(), await link.next_message()]
    assert [len(assignments_of(message)) for message in messages] == [2, 1]
    assert all([session.id for session in message.sessions] == ["s"] for message in messages)


async def test_inline_payloads_without_dependencies_travel_as_columns_and_the_others_beside_them() -> None:
    link = AgentLink(1, "a", [])
    stored = StoredObject("n", 9, b"d")
    several = claimed(1, b"one", outputs=["k", "l"])._replace(retry=2)
    tasks = [several, claimed(2, b"two", ["d", "e"]), claimed(3, b"", outputs=[]), claimed(4, stored)]
    link.assign(tasks, OPTIONS, SESSIONS)
    message = await link.next_message()
    assert message.plain == agent_pb2.PlainAssignments(
        task_nos=[1, 3],
        session_nos=[3, 3],
        claims=[101, 103],
        task_ids=["t1", "t3"],
        retries=[2, 0],
        options_nos=[7, 7],
        payloads=[b"one", b""],
        output_counts=[2, 0],
        expected_output_keys=["k", "l"],
    )
    assert [
        (each.ticket.claim, each.task_id, list(each.data_dependencies), each.payload.WhichOneof("where"))
        for each in message.assignments
    ] == [(102, "t2", ["d", "e"], "inline"), (104, "t4", [], "object")]
    assert explained(message) == ([3], [7])
    assert set(link.claims) == {101, 102, 103, 104}


async def test_several_claims_in_one_message_are_explained_once_and_each_next_message_anew() -> None:
    link = AgentLink(1, "a", [])
    options = dict.fromkeys((7, 8, 9), OPTIONS[7])
    sessions = {3: "s", 4: "t"}
    link.assign([claimed(1), claimed(2, needs=["d"])], options, sessions)
    link.assign([claimed(3)._replace(options_no=8), claimed(4)._replace(ticket=Ticket(4, 4, 104))], options, sessions)
    link.assign([claimed(5, needs=["d"])._replace(options_no=8), claimed(6)], options, sessions)
    message = await link.next_message()
    assert sorted(sent(message)) == ["t1", "t2", "t3", "t4", "t5", "t6"]
    told_sessions, told_options = explained(message)
    assert (sorted(told_sessions), sorted(told_options)) == ([3, 4], [7, 8])
    link.assign([claimed(7)._replace(options_no=9)], options, sessions)
    assert explained(await link.next_message()) == ([3], [9])


async def test_a_message_is_cut_whichever_form_fills_it() -> None:
    """And each of its parts explains what it holds itself."""
    link = AgentLink(1, "a", [])
    large = b"x" * 1_500_000
    link.assign(
        [claimed(1, large), claimed(2, large, ["d"]), claimed(3, large), claimed(4, large, ["d"])], OPTIONS, SESSIONS
    )
    link.assign([claimed(5), claimed(6, needs=["d"])], OPTIONS, SESSIONS)
    messages = [await link.next_message() for _ in range(3)]
    assert [sent(message) for message in messages] == [["t1", "t3"], ["t2", "t4"], ["t6", "t5"]]
    assert all(explained(message) == ([3], [7]) for message in messages)


async def test_what_was_never_sent_is_known() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1)], OPTIONS, SESSIONS)
    await link.next_message()
    link.assign([claimed(2)], OPTIONS, SESSIONS)
    assert link.unsent() == [Ticket(2, 3, 102)]


async def test_what_was_never_sent_is_known_in_either_form_and_in_every_message() -> None:
    link = AgentLink(1, "a", [])
    large = b"x" * 3_000_000
    link.assign([claimed(1), claimed(2, needs=["d"])], OPTIONS, SESSIONS)
    await link.next_message()
    link.assign([claimed(3, large), claimed(4, needs=["d"])], OPTIONS, SESSIONS)
    link.assign([claimed(5), claimed(6, large, ["d"])], OPTIONS, SESSIONS)
    unsent = [Ticket(number, 3, 100 + number) for number in (3, 4, 5, 6)]
    assert sorted(link.unsent()) == unsent
    first, second = await link.next_message(), await link.next_message()
    assert sorted([*sent(first), *sent(second)]) == ["t3", "t4", "t5", "t6"]
    assert link.unsent() == []


async def test_what_was_cancelled_before_it_was_handed_out_is_told_with_it() -> None:
    link = AgentLink(1, "a", [])
    link.cancel([Ticket(1, 3, 101)])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    message = await link.next_message()
    assert [assignment.task_id for assignment in assignments_of(message)] == ["t1", "t2"]
    assert [ticket.claim for ticket in message.cancelled] == [101]


@pytest.mark.parametrize("needs", [[], ["d"]])
async def test_what_was_cancelled_early_is_told_in_the_message_that_assigns_it(needs: list[str]) -> None:
    """Whichever that is: an agent that has not heard of an attempt would not know what is cancelled."""
    link = AgentLink(1, "a", [])
    link.cancel([Ticket(number, 3, 100 + number) for number in (1, 3, 5)])
    large = b"x" * 1_100_000
    link.assign([claimed(number, large, needs) for number in range(1, 5)], OPTIONS, SESSIONS)
    told = []
    for _ in range(2):
        message = await link.next_message()
        there = {assignment.ticket.claim for assignment in assignments_of(message)}
        told += [ticket.claim for ticket in message.cancelled]
        assert there.issuperset(ticket.claim for ticket in message.cancelled)
    assert told == [101, 103]
    link.assign([claimed(1), claimed(5)], OPTIONS, SESSIONS)
    assert [ticket.claim for ticket in (await link.next_message()).cancelled] == [105]


async def test_what_is_cancelled_after_it_was_handed_out_is_told() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1)], OPTIONS, SESSIONS)
    link.cancel([Ticket(1, 3, 101)])
    assert [ticket.claim for ticket in (await link.next_message()).cancelled] == [101]


async def test_claims_are_known_until_they_are_settled() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    link.settle(1, [101])
    assert set(link.claims) == {102}


async def test_what_is_more_urgent_than_anything_held_hurries_an_agent_without_credit() -> None:
    link = AgentLink(1, "a", [])
    link.hold([(101, 5), (102, 50)])
    link.hurry(5)
    link.hurry(60)
    link.hurry(6)
    assert (await link.next_message()).urgent == 60
    link.drop([101])
    link.grant(1)
    link.hurry(99)  # it will be claimed with that credit
    link.revoke()
    link.hurry(50)
    link.settle(1, [102])
    assert not (await link.next_message()).urgent
    link.hurry(99)
    assert link.unsent() == []


async def test_names_of_keys_count_towards_a_message() -> None:
    link = AgentLink(1, "a", [])
    many = [f"{n:01000d}" for n in range(1_500)]
    link.assign([claimed(number, outputs=many) for number in range(4)], OPTIONS, SESSIONS)
    link.assign([claimed(number, needs=many) for number in range(4, 8)], OPTIONS, SESSIONS)
    messages = [await link.next_message() for _ in range(3)]
    assert all(message.ByteSize() < 5 * 1024 * 1024 for message in messages)


async def test_an_agent_that_does_not_read_is_full_and_the_room_is_told() -> None:
    link = AgentLink(1, "a", [])
    rooms: list[int] = []
    link.on_room = lambda: rooms.append(link.unsent_bytes)
    full = []
    for number in range(10):
        full.append(link.full)
        link.assign([claimed(number, b"x" * 1_000_000)], OPTIONS, SESSIONS)
    assert full == [False] * 9 + [True]
    assert rooms == []
    while link.unsent():
        await link.next_message()
    assert len(rooms) == 1
    assert 0 < rooms[0] <= 8 * 1024 * 1024
    assert link.unsent_bytes == 0


async def test_an_agent_that_reads_no_answers_is_not_heard() -> None:
    link = AgentLink(1, "a", [])
    number = 0
    while link.unsent_bytes < 32 * 1024 * 1024:
        await asyncio.wait_for(link.readable(), 10)
        link.settle(number, [])
        link.lose([Ticket(number, 3, number)] * 10_000)
        number += 1
    link.lose([Ticket(number, 3, number)] * 10_000)
    readable = asyncio.create_task(link.readable())
    await asyncio.sleep(0)
    assert not readable.done()
    await link.next_message()
    await asyncio.wait_for(readable, 10)
    assert link.unsent_bytes == 0


async def test_a_cancellation_is_told_once_in_what_was_not_sent_and_again_afterwards() -> None:
    link = AgentLink(1, "a", [])
    link.assign([claimed(1), claimed(2)], OPTIONS, SESSIONS)
    for _ in range(3):
        link.cancel([Ticket(1, 3, 101), Ticket(2, 3, 102)])
    assert [ticket.claim for ticket in (await link.next_message()).cancelled] == [101, 102]
    link.cancel([Ticket(1, 3, 101)])
    assert [ticket.claim for ticket in (await link.next_message()).cancelled] == [101]


@pytest.mark.parametrize("needs", [[], ["d"]])
async def test_options_count_towards_a_message(needs: list[str]) -> None:
    link = AgentLink(1, "a", [])
    options = {number: TaskOptions(1_000_000, 0, 5, {"a": "b" * 200_000}) for number in range(30)}
    link.assign([claimed(number, needs=needs)._replace(options_no=number) for number in range(30)], options, SESSIONS)
    tasks = 0
    while link.unsent():
        message = await link.next_message()
        tasks += len(sent(message))
        assert message.ByteSize() < 3 * 1024 * 1024
    assert tasks == 30


async def test_what_an_agent_has_lost_makes_room_for_nothing_more_urgent() -> None:
    """A lost attempt ends on its agent in silence: no outcome will ever say that it is over."""
    link = AgentLink(1, "a", [])
    link.hold([(101, 0)])
    link.lose([Ticket(1, 3, 101)])
    assert [ticket.claim for ticket in (await link.next_message()).lost] == [101]
    link.hurry(5)
    link.settle(1, [])
    assert not (await link.next_message()).urgent
    assert not link.claims
