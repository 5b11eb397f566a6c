"""Credit meets tasks: each grant is used once, or given back, and none survives its revocation."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from ripieno.control.agents.agent_link import AgentLink
from ripieno.control.agents.dispatcher import Credit, Dispatcher
from ripieno.domain.errors import ConflictError, InvariantError, UnavailableError
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import Ticket
from ripieno.store.attempts.claim import Claimed, Claims
from ripieno.store.sessions.changes import Changes
from ripieno.store.sessions.sessions import KnownOptions, KnownSession, Sessions
from unit.control.assignments import assignments_of

OPTIONS = TaskOptions(1_000_000, 0, 5)


class OneSession(Sessions):
    """Any number is that of ``s``."""

    def __init__(self) -> None:
        pass

    async def by_number(self, session_no: int) -> KnownSession:
        return KnownSession(session_no, "s", KnownOptions(7, OPTIONS), 1)


class Store(Claims):
    """Tasks to be claimed; a claim can be held up, or fail."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.asked: list[list[int]] = []
        self.asking = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()
        self.faults: list[Exception] = []
        self.options_faults: list[Exception] = []

    async def claim(self, partition: str, agents: Sequence[int]) -> list[Claimed]:
        self.asked.append(list(agents))
        self.asking.set()
        await self.answering.wait()
        if self.faults:
            raise self.faults.pop()
        taken, self.waiting = self.waiting[: len(agents)], self.waiting[len(agents) :]
        return [claimed(number, agent_no) for number, agent_no in zip(taken, agents, strict=False)]

    async def options(self, numbers: Sequence[int]) -> dict[int, TaskOptions]:
        if self.options_faults:
            raise self.options_faults.pop()
        return dict.fromkeys(numbers, OPTIONS)


def claimed(number: int, agent_no: int) -> Claimed:
    return Claimed(Ticket(number, 3, 100 + number), agent_no, f"t{number}", 0, 7, ["k"], [], b"p")


class House:
    """A dispatcher with agents of so much credit each."""

    def __init__(self, *credits_: int) -> None:
        self.store = Store()
        self.released: list[Ticket] = []
        self.release_faults: list[Exception] = []
        self.dispatcher = Dispatcher(self.store, OneSession(), self.release)
        self.links = [AgentLink(number, f"a{number}", []) for number in range(1, len(credits_) + 1)]
        for link, granted in zip(self.links, credits_, strict=True):
            link.grant(granted)
            self.dispatcher.connect(link)

    async def release(self, tickets: Sequence[Ticket]) -> None:
        if self.release_faults:
            raise self.release_faults.pop()
        self.released += tickets

    @property
    def credit(self) -> list[int]:
        return [link.credit for link in self.links]

    def submit(self, *numbers: int) -> None:
        self.store.waiting += numbers
        self.dispatcher.changed_here(Changes(partitions={""}))

    async def sent(self, place: int = 0) -> list[str]:
        return [each.task_id for each in assignments_of(await self.links[place].next_message())]

    async def looked(self) -> None:
        """Until the claim that is under way, or about to be, has come to its end."""
        async with asyncio.timeout(5):
            await self.store.asking.wait()
            self.store.asking.clear()
            for _ in range(10):
                await asyncio.sleep(0)


@asynccontextmanager
async def running(house: House) -> AsyncIterator[None]:
    task = asyncio.create_task(house.dispatcher.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tasks_use_up_credit_and_what_is_left_stays() -> None:
    house = House(3, 2)
    async with running(house):
        house.submit(1, 2, 3, 4)
        assert await house.sent(0) == ["t1", "t3"]
        assert await house.sent(1) == ["t2", "t4"]
        assert house.store.asked[0] == [1, 2, 1, 2, 1]
        assert house.credit == [1, 0]


async def test_credit_granted_while_a_claim_is_under_way_is_not_lost() -> None:
    house = House(2)
    house.store.answering.clear()
    async with running(house):
        house.submit(1)
        await house.store.asking.wait()
        assert house.credit == [0]
        house.links[0].grant(4)
        house.store.answering.set()
        assert await house.sent() == ["t1"]
        assert house.credit == [5]


async def test_a_claim_that_fails_costs_no_credit() -> None:
    house = House(2)
    house.store.faults.append(UnavailableError("the database cannot be reached"))
    async with running(house):
        await house.looked()
        assert house.credit == [2]
        house.submit(1)
        assert await house.sent() == ["t1"]
        assert house.credit == [1]


async def test_an_agent_whose_lease_is_not_renewed_gets_nothing() -> None:
    """A replica that was stopped renews leases before it claims: an agent may have connected elsewhere meanwhile."""
    house = House(1, 1)
    house.dispatcher._lease_s = 60
    house.links[0].renewed_at = time.monotonic() - 31
    async with running(house):
        house.submit(1, 2)
        assert await house.sent(1) == ["t1"]
        assert house.credit == [1, 0]
        house.dispatcher.renewed(house.links[0], time.monotonic())
        assert await house.sent(0) == ["t2"]


async def test_an_older_link_is_no_successor() -> None:
    house = House(1)
    latest, older = AgentLink(1, "a1", [], epoch=7), AgentLink(1, "a1", [], epoch=6)
    house.dispatcher.connect(latest)
    assert not await house.links[0].has_more()  # it is closed
    with pytest.raises(ConflictError, match="connected anew"):
        house.dispatcher.connect(older)
    assert house.dispatcher.links == {1: latest}


async def test_what_an_agent_that_went_away_was_to_get_is_released() -> None:
    house = House(1, 1)
    house.store.answering.clear()
    async with running(house):
        house.submit(1, 2)
        await house.store.asking.wait()
        house.dispatcher.disconnect(house.links[1])
        house.store.answering.set()
        assert await house.sent() == ["t1"]
        await house.looked()
    assert house.released == [Ticket(2, 3, 102)]


async def test_new_tasks_are_given_credit_where_nobody_is_before_them() -> None:
    house = House(2, 2)
    assert house.dispatcher.take_for_new("", 1) is None  # until it has been looked whether somebody is
    async with running(house):
        await house.looked()
        credit = house.dispatcher.take_for_new("", 3)
        assert credit is not None and credit.agents == [1, 2, 1]
        assert house.credit == [0, 1]
        assert house.dispatcher.take_for_new("", 2) is None
        assert house.dispatcher.take_for_new("other", 1) is None
        house.dispatcher.give_back(credit)
        assert house.credit == [2, 2]
        house.store.answering.clear()
        house.submit(*range(9))
        assert house.dispatcher.take_for_new("", 1) is None
        house.store.answering.set()


async def test_credit_for_new_tasks_that_is_revoked_meanwhile_is_not_given_back() -> None:
    house = House(2, 2)
    async with running(house):
        await house.looked()
        credit = house.dispatcher.take_for_new("", 4)
        assert credit is not None
        house.links[0].revoke()
        house.dispatcher.give_back(credit)
        assert house.credit == [0, 2]


async def test_new_tasks_are_handed_out_to_their_agents() -> None:
    house = House(1, 1)
    gone = AgentLink(9, "gone", [])
    credit = Credit([2, 1, 9], {link.agent_no: (link, 0) for link in [*house.links, gone]})
    await house.dispatcher.hand_out([claimed(1, 2), claimed(2, 1), claimed(3, 9)], credit)
    assert (await house.sent(0), await house.sent(1)) == (["t2"], ["t1"])
    assert house.released == [Ticket(3, 3, 103)]


async def test_agents_get_what_was_claimed_for_them_though_what_was_for_others_cannot_be_released() -> None:
    house = House(1, 1)
    house.release_faults.append(InvariantError("a bug"))
    house.dispatcher.disconnect(house.links[0])
    credit = Credit([1, 2], {link.agent_no: (link, 0) for link in house.links})
    with pytest.raises(InvariantError):
        await house.dispatcher.hand_out([claimed(1, 1), claimed(2, 2)], credit)
    assert await house.sent(1) == ["t2"]


async def test_what_cannot_be_handed_out_is_released_and_costs_no_credit() -> None:
    house = House(2)
    house.store.options_faults.append(UnavailableError("the database has gone"))
    async with running(house):
        house.submit(1, 2)
        await house.looked()
        assert house.released == [Ticket(1, 3, 101), Ticket(2, 3, 102)]
        assert house.credit == [2]
        house.submit(1, 2)
        assert await house.sent() == ["t1", "t2"]
        assert house.credit == [0]


async def test_what_was_claimed_with_credit_that_was_revoked_is_released_before_the_next_claim() -> None:
    """What the agent gave back with it may be more urgent."""
    house = House(2)
    house.store.answering.clear()
    async with running(house):
        house.submit(1, 2)
        await house.store.asking.wait()
        house.links[0].revoke()
        house.links[0].grant(1)
        house.store.answering.set()
        house.submit(3)
        assert (await house.links[0].next_message()).revocations == 1
        assert await house.sent() == ["t3"]
        assert house.released == [Ticket(1, 3, 101), Ticket(2, 3, 102)]
        assert house.credit == [0]  # what was not used of the revoked credit is not given back either


async def test_agents_that_take_hundreds_get_an_eighth_at_a_time() -> None:
    """A message for each task would cost more than the tasks; those with the most credit are first."""
    house = House(8, 80)
    async with running(house):
        house.submit(*range(1, 14))
        assert await house.sent(1) == [f"t{number}" for number in [*range(1, 11), 12, 13]]
        assert await house.sent(0) == ["t11"]
    assert Counter(house.store.asked[0]) == {1: 8, 2: 80}


async def test_an_agent_that_does_not_read_gets_no_more_until_it_does() -> None:
    house = House(8, 8)
    slow = house.links[0]
    for number in range(10):
        slow.assign([claimed(number, 1)._replace(payload=bytes(1_000_000))], {7: OPTIONS}, {3: "s"})
    async with running(house):
        house.submit(*range(10, 22))
        assert await house.sent(1) == [f"t{number}" for number in range(10, 18)]
        await asyncio.sleep(0)
        assert house.store.waiting == [18, 19, 20, 21]
        told = []
        while "t21" not in told:
            told += await house.sent(0)
    assert told == [f"t{number}" for number in [*range(10), *range(18, 22)]]


async def test_a_partition_that_nobody_serves_is_forgotten_until_somebody_does() -> None:
    """Clients may name as many as they like, and none of them costs anything from then on."""
    house = House(1)
    async with running(house):
        house.dispatcher.changed_here(Changes(partitions={str(number) for number in range(100)}))
        house.dispatcher.submitted("7", 50)
        house.submit(1)
        assert await house.sent() == ["t1"]
        async with asyncio.timeout(5):
            while house.dispatcher._hot != {""}:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        assert not house.dispatcher._submitted
        late = AgentLink(2, "a2", ["7"])
        late.grant(1)
        house.store.waiting.append(2)
        house.dispatcher.connect(late)
        async with asyncio.timeout(5):
            assert [each.task_id for each in assignments_of(await late.next_message())] == ["t2"]
