"""Collects data that arrives in chunks: small data is kept, large data is uploaded while it arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ripieno.agent.conversation.effects import Effect, UploadContinued, UploadFinished, UploadStarted
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.submission import NewTask

#: Most inline data of one attempt in total. Further data is uploaded whatever its size,
#: so that an outcome stays a message of reasonable length.
INLINE_BUDGET_BYTES = 2 * 1024 * 1024

#: Callback that takes the name of a datum that was uploaded.
Place = Callable[[StoredObject], None]


#: Longest outcome that can be committed. A longer one is a final failure, because a message that
#: the control plane refuses would break the stream again and again.
MAX_OUTCOME_BYTES = 24 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in the control plane's Welcome: sizes in bytes, and most sub-tasks that an attempt may create."""

    data_chunk_max_size: int = 84_000
    inline_limit_bytes: int = 65_536
    sub_tasks_per_attempt: int = 50_000
    options_bytes: int = 256 * 1024


@dataclass(slots=True, eq=False)
class Gathering:
    """One datum that is arriving. ``upload`` is the number of its upload, 0 while its chunks are kept here."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    upload: int = 0


@dataclass(slots=True, eq=False)
class Gatherer:
    """Collects all data that one attempt produces: its results and its sub-tasks' payloads."""

    limits: Limits
    _inline_bytes: int = 0
    _uploads: int = 0
    #: Uploads that are not stored yet, with the callback for each one's name; None until its data is complete.
    _unstored: dict[int, Place | None] = field(default_factory=dict)

    @property
    def unstored(self) -> bool:
        """Whether an upload is still under way."""
        return bool(self._unstored)

    def add(self, gathering: Gathering, data: bytes) -> list[Effect]:
        """Add a chunk to a datum; starts an upload when it, or all inline data together, becomes too large."""
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
        """Complete a datum. If it is being uploaded, ``place`` is called with its name once it is stored.

        Returns:
            The datum, or empty bytes in place of one that is being uploaded, and the effects to carry out.
        """
        if gathering.upload:
            self._unstored[gathering.upload] = place
            return b"", [UploadFinished(gathering.upload)]
        chunks = gathering.chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks), []

    def stored(self, upload: int, stored: StoredObject) -> None:
        """Pass the name of a stored upload to the callback that ``close`` was given."""
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
    """Replace the task at ``index`` by a copy with ``payload``."""
    task = tasks[index]
    tasks[index] = NewTask(task.id, task.expected_output_keys, task.data_dependencies, payload)
