"""One attempt, as this agent holds it: from its assignment to its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Failed, Failure

if TYPE_CHECKING:
    from ripieno.agent.conversation.conversation import Conversation


class Verdict(Enum):
    """How an attempt ends whatever its worker still says."""

    CANCELLED = auto()  # by a user
    LOST = auto()  # the control plane gave it to another; report nothing
    RELEASED = auto()  # given back, no attempt used up
    TIMEOUT = auto()  # max_duration passed
    FAILED = auto()  # the worker broke the protocol
    REFUSED = auto()  # it asked for more than an attempt may, and would again

    @classmethod
    def of(cls, how: Failed) -> Verdict:
        """The verdict on an attempt whose worker says, in the midst of it, what makes it fail."""
        return cls.FAILED if how.failure.may_retry else cls.REFUSED

    @property
    def failure(self) -> Failure:
        """What the attempt is told to have failed by."""
        return {Verdict.TIMEOUT: Failure.TIMEOUT, Verdict.REFUSED: Failure.OUTPUT}.get(self, Failure.ATTEMPT)

    def outweighs(self, former: Verdict | None) -> bool:
        """Whether it replaces a verdict that was given before."""
        if former is None or self is Verdict.LOST:
            return True
        return self is Verdict.CANCELLED and former is not Verdict.LOST


@dataclass(eq=False, slots=True)
class Spooled:
    """A large datum in a file of this agent, shared by the attempts that read it."""

    name: str
    path: Path
    size: int
    users: int = 0


#: A datum at hand: its bytes, or the file that holds them.
Input = bytes | Spooled


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of an attempt that matter to an agent.

    Attributes:
        options: The free map, handed to the worker.
        max_duration_s: Time limit from the start on a worker.
        priority: Larger is more urgent; among what this agent holds.
    """

    options: Mapping[str, str]
    max_duration_s: float
    priority: int = 0


@dataclass(eq=False)
class Attempt:
    """One attempt in hand. Belongs to the event loop's thread; compared by identity.

    Attributes:
        claim: Never repeats, so it names the attempt (INV-5).
        id: As the worker sees it: the task's id, and ``###<retry>`` on retries.
        data_dependencies: Distinct, in the task's order.
    """

    # No slots on purpose: the fields below with ``init=False`` cost nothing until set.
    task_no: int
    session_no: int
    claim: int
    session_id: str
    task_id: str
    id: str
    options: RunOptions
    expected_output_keys: Sequence[str]
    data_dependencies: Sequence[str]
    payload: Data

    #: Inputs at hand, by key; ``None`` as long as there is nothing to fetch.
    inputs: dict[str, Input] | None = field(init=False, default=None)
    #: A large payload, once it is at hand.
    spooled_payload: Spooled | None = field(init=False, default=None)
    #: Holds large data, so it is never sent ahead.
    large: bool = field(init=False, default=False)
    #: Was in the inbox of a worker that died, so it runs with nothing behind it.
    alone: bool = field(init=False, default=False)
    #: The number under which its worker knows it (batch lane).
    number: int = field(init=False, default=0)
    conversation: Conversation | None = field(init=False, default=None)
    #: It is asked back from a worker that may not have begun it.
    withdrawing: bool = field(init=False, default=False)
    #: The control plane knows that it runs.
    reported: bool = field(init=False, default=False)
    started_at_us: int = field(init=False, default=0)
    worker: str = field(init=False, default="")
    verdict: Verdict | None = field(init=False, default=None)
    detail: str = field(init=False, default="")
    #: Data of it is, or was, being uploaded.
    uploading: bool = field(init=False, default=False)
    #: Monotonic time of the interruption, seconds.
    interrupted_at: float = field(init=False, default=0.0)
    over: bool = field(init=False, default=False)
    #: Bytes of inline data that it holds in this process.
    weight: int = field(init=False, default=0)

    @property
    def solitary(self) -> bool:
        """Whether it must be the only one in a worker's inbox."""
        return self.large or self.alone

    @property
    def size(self) -> int:
        """Bytes of its payload and of the inputs at hand."""
        payload = self.payload
        size = len(payload) if isinstance(payload, bytes) else payload.size
        if self.inputs:
            size += sum(len(datum) if isinstance(datum, bytes) else datum.size for datum in self.inputs.values())
        return size

    @property
    def inline_bytes(self) -> int:
        """Bytes of its payload and of the inputs at hand that lie in memory."""
        size = len(self.payload) if isinstance(self.payload, bytes) else 0
        if self.inputs:
            size += sum(len(datum) for datum in self.inputs.values() if isinstance(datum, bytes))
        return size

    def spooled(self) -> list[Spooled]:
        """The files it reads."""
        files = [datum for datum in (self.inputs or {}).values() if isinstance(datum, Spooled)]
        return [*files, self.spooled_payload] if self.spooled_payload is not None else files
