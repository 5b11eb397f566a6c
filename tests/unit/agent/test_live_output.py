"""What is sent of attempts that run: each text under its own attempt's name, bounded, and only while it is followed."""

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from ripieno.agent.attempts.attempt import Attempt, RunOptions
from ripieno.agent.attempts.endings import put_ticket
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.slots import Slot
from ripieno.agent.workers import live_output
from ripieno.agent.workers.live_output import MOST_FOLLOWED, LiveOutputs
from ripieno.domain.output import AttemptOutput
from ripieno.printed import Position, Printed
from ripieno.wire.outcomes import output_from_wire
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.test_printed import obedient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kept where the kernel has anonymous files")


def attempt(claim: int) -> Attempt:
    return Attempt(claim, 1, claim, "s", f"t{claim}", f"t{claim}", RunOptions({}, 60.0), ["r"], [], b"")


def ticket(of: Attempt) -> agent_pb2.Ticket:
    named = agent_pb2.Ticket()
    put_ticket(named, of)
    return named


def told(outbox: Outbox) -> list[tuple[int, AttemptOutput]]:
    """What the next message tells, with the claims."""
    message = outbox.take()
    return [] if message is None else [(each.ticket.claim, output_from_wire(each.output)) for each in message.outputs]


async def test_what_is_followed_is_sent_when_there_is_more(tmp_path: Path) -> None:
    async with obedient(tmp_path) as worker:
        first, second = attempt(1), attempt(2)
        slot = Slot("slot", printed=worker.printed, output_since=worker.printed.position())
        slot.inbox.append(first)
        outbox = Outbox()
        live = LiveOutputs([slot], outbox)
        await worker.run("os.write(1, b'unheard')")
        live.send()
        assert told(outbox) == []
        live.follow([ticket(first), ticket(second)])
        await _read(worker.printed)
        live.send()
        assert told(outbox) == [(1, AttemptOutput(b"unheard"))]
        live.send()
        assert told(outbox) == []
        await worker.run("os.write(2, b'more')")
        await _read(worker.printed)
        live.send()
        assert told(outbox) == [(1, AttemptOutput(b"unheard", b"more"))]
        live.follow([ticket(first)])
        live.send()
        assert told(outbox) == [(1, AttemptOutput(b"unheard", b"more"))], "asked again: the first answer may be lost"


async def test_with_others_behind_only_what_is_surely_its_own_is_sent(tmp_path: Path) -> None:
    """The first of an inbox may have ended, and the next one print, before the agent hears of it."""
    async with obedient(tmp_path) as worker:
        first, second = attempt(1), attempt(2)
        slot = Slot("slot", printed=worker.printed, output_since=worker.printed.position())
        slot.inbox.extend([first, second])
        outbox = Outbox()
        live = LiveOutputs([slot], outbox)
        live.follow([ticket(first), ticket(second)])
        await worker.run("os.write(1, b'of the first')")
        await _read(worker.printed)
        live.send()
        assert told(outbox) == []
        border = worker.printed.position()
        await worker.run("os.write(1, b'of the second')")
        await _read(worker.printed)
        live.send()
        assert told(outbox) == [(1, AttemptOutput(b"of the first"))]
        slot.inbox.popleft()
        slot.output_since = border
        live.send()
        assert told(outbox) == [(2, AttemptOutput(b"of the second"))]


async def test_nobody_is_followed_for_ever_nor_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with obedient(tmp_path) as worker:
        attempts = [attempt(number) for number in range(MOST_FOLLOWED + 1)]
        slots = [Slot("slot", printed=worker.printed, output_since=Position(0, 0)) for _ in attempts]
        for slot, each in zip(slots, attempts, strict=True):
            slot.inbox.append(each)
        outbox = Outbox()
        live = LiveOutputs(slots, outbox)
        live.follow([ticket(each) for each in attempts])
        live.send()
        assert [claim for claim, _ in told(outbox)] == list(range(MOST_FOLLOWED))
        monkeypatch.setattr(live_output, "FOLLOWED_S", -1.0)
        live.follow([ticket(each) for each in attempts])
        live.send()
        assert told(outbox) == []
        assert not cast(Any, live)._followed


async def _read(printed: Printed) -> None:
    """Let the warden read all that was written."""
    end = printed.position()
    assert end is not None
    printed.wait(end)
    assert printed.has_read(end)
