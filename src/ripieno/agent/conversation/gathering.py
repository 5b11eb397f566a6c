"""Data that arrives in chunks: kept while small, passed on while it arrives when large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ripieno.agent.conversation.effects import Effect, UploadContinued, UploadFinished, UploadStarted
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.submission import NewTask

#: Inline data of one attempt, in sum; what comes after is uploaded whatever its size,
#: so that an outcome stays a message of reasonable length.
INLINE_BUDGET_BYTES = 2 * 1024 * 1024

#: Takes the name of a datum that was uploaded.
Place = Callable[[StoredObject], None]


#: An outcome that is longer cannot be committed, and is a final failure: a message that the
#: control plane refuses would break the stream again and again.
MAX_OUTCOME_BYTES = 24 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What the control plane said in its Welcome: sizes in bytes, and how many sub-tasks an attempt may create."""

    data_chunk_max_size: int = 84_000
    inline_limit_bytes: int = 65_536
    sub_tasks_per_attempt: int = 50_000
    options_bytes: int = 256 * 1024


@dataclass(slots=True, eq=False)
class Gathering:
    """One datum under way. ``upload`` 0: kept here."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    upload: int = 0


@dataclass(slots=True, eq=False)
class Gatherer:
    """All data that one attempt produces: its results and its sub-tasks' payloads."""

    limits: Limits
    _inline_bytes: int = 0
    _uploads: int = 0
    #: Uploads not yet stored, and what to do with the name.
    _unstored: dict[int, Place | None] = field(default_factory=dict)

    @property
    def unstored(self) -> bool:
        """Whether an upload is still under way."""
        return bool(self._unstored)

    def add(self, gathering: Gathering, data: bytes) -> list[Effect]:
        """A chunk arrived."""
        length = len(data)
        gathering.size += length
        if gathering.upload:
            return [UploadContinued(gathering.upload, data)]
        self._inline_bytes += length
        gathering.chunks.append(data)
        if gathering.size <= self.limits.inline_limit_bytes and self._inline_bytes <= INLINE_BUDGET_BYTES:
            return []
        return self._start_upload(gathering)

    def close(self, gathering: Gathering, place: Place) -> tuple[Data, list[Effect]]:
        """The datum is complete; ``place`` is called with its name once it is stored.

        Returns:
            The datum, or a stand-in for one that is being uploaded.
        """
        if gathering.upload:
            self._unstored[gathering.upload] = place
            return b"", [UploadFinished(gathering.upload)]
        chunks = gathering.chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks), []

    def stored(self, upload: int, stored: StoredObject) -> None:
        """An upload is complete."""
        place = self._unstored.pop(upload)
        if place is not None:
            place(stored)

    def _start_upload(self, gathering: Gathering) -> list[Effect]:
        self._uploads += 1
        gathering.upload = self._uploads
        self._unstored[gathering.upload] = None
        self._inline_bytes -= gathering.size
        chunks, gathering.chunks = gathering.chunks, []
        return [UploadStarted(gathering.upload), *(UploadContinued(gathering.upload, chunk) for chunk in chunks)]


def put_payload(tasks: list[NewTask], index: int, payload: Data) -> None:
    """Give one of the tasks its payload."""
    task = tasks[index]
    tasks[index] = NewTask(task.id, task.expected_output_keys, task.data_dependencies, payload)
