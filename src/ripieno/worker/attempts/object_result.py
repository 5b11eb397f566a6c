"""``ObjectResult``: writes one large result into the object store in pieces, digested as it is written."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from ripieno.domain.data import StoredObject
from ripieno.objects import PIECE_BYTES, ObjectFile
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.drivers import BytesLike, Operation
from ripieno.worker.attempts.object_place import object_threads


class ObjectResult:
    """Writes one large result into its file; the methods are operations.

    At most three pieces of ``PIECE_BYTES`` are held: one that is being written, one that is
    whole and may be the last, and one that is being filled.
    """

    def __init__(self, attempt: Attempt, key: str, file: ObjectFile) -> None:
        self._attempt = attempt
        self._key = key
        self._file = file
        self._size = 0
        self._digest = hashlib.sha256()
        self._held = bytearray()
        #: The last whole piece, held back so that the end of the result is digested, written and made
        #: durable in one go: each trip to a thread costs 0.1 ms.
        self._whole: bytearray | memoryview | None = None
        self._writing: Sequence[Future[Any]] = ()

    def write(self, piece: BytesLike) -> Operation[None]:
        """Add a piece of any length.

        Raises:
            OSError: the disk is full, or fails.
        """
        rest = memoryview(piece).cast("B")
        self._size += len(rest)
        while rest:
            if not self._held and len(rest) >= PIECE_BYTES and isinstance(piece, bytes):
                taken = rest[:PIECE_BYTES]  # bytes never change, so they are written without a copy
                yield from self._put(taken)
            else:
                taken = rest[: PIECE_BYTES - len(self._held)]
                self._held += taken
                if len(self._held) == PIECE_BYTES:
                    held, self._held = self._held, bytearray()
                    yield from self._put(held)
            rest = rest[len(taken) :]

    def end(self) -> Operation[None]:
        """Complete the result: make its file durable, then tell the agent of it.

        Raises:
            OSError: the disk is full, or fails.
        """
        yield from self._settle()
        yield from self._wait(object_threads().submit(self._finish))
        self._attempt.require_usable()
        self._attempt.send_stored(self._key, StoredObject(self._file.name, self._size, self._digest.digest()))

    def _put(self, piece: bytearray | memoryview) -> Operation[None]:
        whole, self._whole = self._whole, piece
        if whole is not None:
            yield from self._settle()
            threads = object_threads()
            self._writing = (threads.submit(self._digest.update, whole), threads.submit(self._file.append, whole))

    def _settle(self) -> Operation[None]:
        writing, self._writing = self._writing, ()
        for future in writing:
            yield from self._wait(future)

    def _wait(self, future: Future[Any]) -> Operation[None]:
        self._attempt.require_usable()
        name = self._attempt.new_request_id()
        yield self._attempt.wait_for(name, future)
        self._attempt.stop_waiting(name)

    def _finish(self) -> None:
        for piece in (self._whole, self._held):
            if piece:
                self._digest.update(piece)
                self._file.append(piece)
        self._file.finish()
