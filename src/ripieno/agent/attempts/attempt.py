"""The state of one attempt on this agent, from its assignment to its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Failed, Failure
from ripieno.domain.output import AttemptOutput
from ripieno.domain.progress import Progress

if TYPE_CHECKING:
    from ripieno.agent.conversation.conversation import Conversation


class Verdict(Enum):
    """An end of an attempt that is decided by the agent, whatever its worker still says."""

    CANCELLED = auto()  # a user cancelled the task
    LOST = auto()  # the control plane gave the claim to another agent; nothing is reported
    RELEASED = auto()  # given back; no attempt of the task is used up
    TIMEOUT = auto()  # max_duration passed
    FAILED = auto()  # the worker broke the protocol
    REFUSED = auto()  # the attempt asked for more than it may, and would again

    @classmethod
    def of(cls, how: Failed) -> Verdict:
        """The verdict on an attempt that fails before its Output: REFUSED if the failure is final, else FAILED."""
        return cls.FAILED if how.failure.may_retry else cls.REFUSED

    @property
    def failure(self) -> Failure:
        """The reason of failure that is reported for the attempt."""
        return {Verdict.TIMEOUT: Failure.TIMEOUT, Verdict.REFUSED: Failure.OUTPUT}.get(self, Failure.ATTEMPT)

    def outweighs(self, former: Verdict | None) -> bool:
        """Whether this verdict replaces the ``former`` one, None for none."""
        if former is None or self is Verdict.LOST:
            return True
        return self is Verdict.CANCELLED and former is not Verdict.LOST


@dataclass(eq=False, slots=True)
class Spooled:
    """A large datum in a file of this agent, shared by the attempts that read it.

    Attributes:
        name: Name of the object; for one attempt's inline data, of the file.
        path: The file.
        size: Its size in bytes.
        users: How many readers have it open; the file is kept while there are any.
    """

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
        options: The free map of options, handed to the worker.
        max_duration_s: Time limit in seconds from the start on a worker.
        priority: Orders the attempts that this agent holds; larger is more urgent.
    """

    options: Mapping[str, str]
    max_duration_s: float
    priority: int = 0


@dataclass(eq=False)
class Attempt:
    """One attempt that this agent holds. Belongs to the event loop's thread; compared by identity.

    Attributes:
        claim: Number of the claim, which never repeats, so it names the attempt (INV-5).
        id: The attempt's id that the worker is given: the task's id, with ``###<retry>`` on retries.
        data_dependencies: Distinct keys, in the task's order.
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

    #: Inputs at hand, by key; ``None`` until inputs are fetched for the attempt.
    inputs: dict[str, Input] | None = field(init=False, default=None)
    #: The file of a large payload, once it is at hand.
    spooled_payload: Spooled | None = field(init=False, default=None)
    #: Whether the attempt holds large data, so that it is never sent ahead.
    large: bool = field(init=False, default=False)
    #: Whether the attempt was in the inbox of a worker that died, so that it runs with nothing behind it.
    alone: bool = field(init=False, default=False)
    #: The number that names the attempt in messages to and from its worker (batch lane).
    number: int = field(init=False, default=0)
    #: The place in its worker where the attempt runs.
    place: int = field(init=False, default=0)
    conversation: Conversation | None = field(init=False, default=None)
    #: Whether the attempt was asked back from a worker that may not have begun it.
    withdrawing: bool = field(init=False, default=False)
    #: Whether the control plane was told that the attempt runs.
    reported: bool = field(init=False, default=False)
    started_at_us: int = field(init=False, default=0)
    worker: str = field(init=False, default="")
    verdict: Verdict | None = field(init=False, default=None)
    detail: str = field(init=False, default="")
    #: Whether data of the attempt is, or was, being uploaded.
    uploading: bool = field(init=False, default=False)
    #: Monotonic time of the interruption, seconds.
    interrupted_at: float = field(init=False, default=0.0)
    over: bool = field(init=False, default=False)
    #: What the attempt has printed; None for nothing, or if it still runs.
    output: AttemptOutput | None = field(init=False, default=None)
    #: How far the attempt has come, as its handler said last; None if it said nothing.
    progress: Progress | None = field(init=False, default=None)
    #: Bytes of inline data that the attempt holds in this process.
    weight: int = field(init=False, default=0)

    @property
    def solitary(self) -> bool:
        """Whether the attempt must be the only one in a worker's inbox."""
        return self.large or self.alone

    @property
    def size(self) -> int:
        """Bytes of the attempt's payload and of the inputs at hand, whether inline or in files."""
        payload = self.payload
        size = len(payload) if isinstance(payload, bytes) else payload.size
        if self.inputs:
            size += sum(len(datum) if isinstance(datum, bytes) else datum.size for datum in self.inputs.values())
        return size

    @property
    def inline_bytes(self) -> int:
        """Bytes of the attempt's payload and of the inputs at hand that are in memory."""
        size = len(self.payload) if isinstance(self.payload, bytes) else 0
        if self.inputs:
            size += sum(len(datum) for datum in self.inputs.values() if isinstance(datum, bytes))
        return size

    def spooled(self) -> list[Spooled]:
        """Return the files of the attempt's large inputs and payload."""
        files = [datum for datum in (self.inputs or {}).values() if isinstance(datum, Spooled)]
        return [*files, self.spooled_payload] if self.spooled_payload is not None else files
