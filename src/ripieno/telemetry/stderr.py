"""A standard error stream that never makes its process wait.

The program that starts a server may give it a pipe as its standard error and never read it. Once such
a pipe is full, a plain write to it blocks for ever: the event loop stands still over a log line.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import time

#: Most bytes that wait to be written; text beyond this is dropped, and counted.
HELD_BYTES = 1024 * 1024
#: Most seconds that the process waits at its end for held text to be written.
LAST_WRITE_S = 1.0


class PatientStderr(io.TextIOBase):
    """A text stream that a thread of its own writes to a descriptor; a reader that does not read only loses text.

    Guarantees: ``write`` never waits for the reader, does not raise when the reader is gone, and keeps the
    order of the text. At most ``HELD_BYTES`` are held, beside a notice. Dropped bytes are counted, and a notice
    says how many once there is room again.

    Args:
        descriptor: Where the thread writes.
        encoding: Encoding of the text.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._waiting: list[bytes] = []
        self._held_bytes = 0
        self._dropped_bytes = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the text; characters that it lacks are written as escapes."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """The error handler of the encoding: escapes for characters it lacks, never an error."""
        return "backslashreplace"

    def writable(self) -> bool:
        """Return True: the stream always takes text."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, for code that writes to it directly (a dying interpreter, say)."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def write(self, text: str) -> int:
        """Hand text over to the thread, or drop it if too much is held; return its length either way."""
        data = text.encode(self._encoding, "backslashreplace")
        with self._change:
            if self._held_bytes + len(data) > HELD_BYTES:
                self._dropped_bytes += len(data)
                return len(text)
            if self._dropped_bytes:
                told = f"[{self._dropped_bytes} bytes of this were dropped: nobody read them in time]\n".encode("ascii")
                self._waiting.append(told)
                self._held_bytes += len(told)
                self._dropped_bytes = 0
            self._waiting.append(data)
            self._held_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ripieno-stderr", daemon=True)
                self._thread.start()
            self._change.notify_all()
        return len(text)

    def flush(self) -> None:
        """No-op. The thread writes held text without being asked to."""

    def drain(self, limit_s: float) -> None:
        """Wait until all held text is written, for at most ``limit_s`` seconds."""
        deadline = time.monotonic() + limit_s
        with self._change:
            while self._held_bytes and (left := deadline - time.monotonic()) > 0:
                self._change.wait(left)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting)
                data = b"".join(self._waiting)
                self._waiting.clear()
            self._write_out(data)
            with self._change:
                self._held_bytes -= len(data)
                self._change.notify_all()

    def _write_out(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                time.sleep(0.05)  # a descriptor that somebody else made non-blocking
            except OSError:
                return  # the reader has closed its end: the text is lost


def install_patient_stderr() -> None:
    """Replace ``sys.stderr`` by a ``PatientStderr``, for all code in this process that writes to it.

    Does nothing if the process has no standard error, or ``sys.stderr`` was replaced already.
    """
    now = sys.stderr
    if not isinstance(now, io.TextIOWrapper) or now is not sys.__stderr__:
        return
    now.flush()
    patient = PatientStderr(now.fileno(), now.encoding)
    sys.stderr = patient
    atexit.register(patient.drain, LAST_WRITE_S)
