"""How far attempts have come, as an agent tells it: once each time, of sessions that are followed, and of no others."""

import pytest

from ripieno.agent.attempts.attempt import Attempt, RunOptions
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.slots import Slot
from ripieno.agent.workers import live_progress
from ripieno.agent.workers.live_progress import LiveProgress
from ripieno.domain.progress import Progress
from ripieno.wire.progress import progress_from_wire
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import agent


def attempt(claim: int, session_no: int = 1) -> Attempt:
    return Attempt(claim, session_no, claim, "s", f"t{claim}", f"t{claim}", RunOptions({}, 60.0), ["r"], [], b"")


def told(outbox: Outbox) -> dict[int, Progress]:
    """What the next message tells, by claim."""
    message = outbox.take()
    return (
        {} if message is None else {each.ticket.claim: progress_from_wire(each.progress) for each in message.progress}
    )


def test_what_attempts_of_followed_sessions_say_is_told_once() -> None:
    first, second, other, silent = attempt(1), attempt(2), attempt(3, session_no=2), attempt(4)
    first.progress, other.progress = Progress(0.1, "begun"), Progress(0.2)
    slots, outbox = [Slot("one"), Slot("two")], Outbox()
    slots[0].inbox.extend([first, silent])
    slots[1].inbox.extend([second, other])
    live = LiveProgress(slots, outbox)
    live.send()
    assert told(outbox) == {}, "nobody follows"
    live.follow([1, 7])
    live.send()
    assert told(outbox) == {1: Progress(0.1, "begun")}
    live.send()
    assert told(outbox) == {}
    first.progress, second.progress = Progress(0.3), Progress(0.4)
    live.send()
    assert told(outbox) == {1: Progress(0.3), 2: Progress(0.4)}
    live.follow([2])
    live.send()
    assert told(outbox) == {3: Progress(0.2)}
    live.follow([1])
    slots[1].inbox.clear()
    live.send()
    assert told(outbox) == {1: Progress(0.3)}, "asked again: what was sent may be lost"


def test_a_session_is_followed_for_a_while_and_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_progress, "MOST_FOLLOWED", 1)
    one, two = attempt(1, session_no=1), attempt(2, session_no=2)
    one.progress = two.progress = Progress(0.5)
    slot, outbox = Slot("slot"), Outbox()
    slot.inbox.extend([one, two])
    live = LiveProgress([slot], outbox)
    live.follow([1])
    live.follow([2])
    live.send()
    assert told(outbox) == {1: Progress(0.5)}
    monkeypatch.setattr(live_progress, "FOLLOWED_S", -1.0)
    live.follow([1])
    live.send()
    assert told(outbox) == {}
    assert not live._begun.is_set(), "it sleeps until somebody follows again"


async def test_what_a_worker_says_gets_to_the_control_plane(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"far:0.25"))
        await replica.until(lambda: "t" in replica.assigned)
        replica.tell(agent_pb2.ControlMessage(follow_progress=[1, 99]))
        await replica.until(lambda: bool(replica.progress))
        assert replica.progress == [("t", 0.25, "so far")]
        replica.cancel("t")
        assert (await replica.outcome_of("t")).HasField("cancelled")
