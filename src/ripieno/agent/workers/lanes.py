"""What the lanes have in common: how a lane breaks, whether a worker serves the batch lane, and its further places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import grpc
import grpc.aio

from ripieno.agent.attempts.attempt import Attempt
from ripieno.agent.scheduling.slots import Lane

METHOD = "/ripieno.v1.BatchWorker/Process"
#: The most places of one worker; of more that it says the others stay unused.
MOST_PLACES = 1_000
#: How long a worker may take to say whether it knows this lane.
PROBE_S = 5.0


class LaneBrokenError(Exception):
    """A worker cannot be reached any more; the text says why.

    Attributes:
        blameless: Whether no attempt in the worker's inbox had begun.
    """

    def __init__(self, detail: str, *, blameless: bool = False) -> None:
        super().__init__(detail)
        self.blameless = blameless


async def is_served(channel: grpc.aio.Channel) -> bool:
    """Whether a worker serves the batch lane.

    An empty stream is opened and ended at once, and a worker that serves the lane ends it in turn.
    So no attempt is put at risk to find out.

    Raises:
        LaneBrokenError: if the worker does not answer.
    """
    probe: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
    call = probe(b"", timeout=PROBE_S)
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return True
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return False
    raise LaneBrokenError(f"the worker does not answer: {code.name}: {await call.details()}", blameless=True)


class _Starter(Lane, Protocol):
    """A lane that can start attempts in any place of its worker."""

    def start_in(self, place: int, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the inbox of a place."""


class Place:
    """A further place of a worker, beside the first: the lane as the slot of that place sees it."""

    ahead = True

    def __init__(self, lane: _Starter, number: int) -> None:
        self._lane = lane
        self._number = number

    @property
    def faces(self) -> Sequence[Lane]:
        """The lane as all slots of its worker see it."""
        return self._lane.faces

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Put attempts into the inbox of this place."""
        self._lane.start_in(self._number, attempts)

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Ask for attempts back that may not have begun."""
        self._lane.withdraw(attempts)

    def interrupt(self, attempt: Attempt) -> None:
        """Ask the worker to stop an attempt."""
        self._lane.interrupt(attempt)

    def kill(self, reason: str) -> bool:
        """End the worker, with all of its places."""
        return self._lane.kill(reason)
