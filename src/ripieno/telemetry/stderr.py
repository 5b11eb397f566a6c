"""A standard error that never makes its process wait.

Whoever starts a server may give it a pipe as its standard error and never read it. Once such a pipe
is full, a plain write to it blocks for ever: the event loop stands still over a log line.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import time

#: What waits to be taken beyond this is dropped, and counted.
HELD_BYTES = 1024 * 1024
#: At the end of the process, how long what waits may take to be written.
LAST_WRITE_S = 1.0


class PatientStderr(io.TextIOBase):
    """Text that a thread of its own writes to a descriptor; a reader that does not read loses text, nothing else.

    Guarantees: ``write`` never blocks, never raises, and keeps the order of what it takes. At most
    ``HELD_BYTES`` wait. What was dropped is counted, and told once there is room again.
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
        """As what text is written; characters that it does not have are written out."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Never an error."""
        return "backslashreplace"

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor, for those who write to it themselves (a dying interpreter, say)."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether somebody looks at a terminal."""
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def write(self, text: str) -> int:
        """Hand text over to the thread, or drop it."""
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
        """Nothing: what waits is written without being asked to."""

    def drain(self, limit_s: float) -> None:
        """Wait until what was handed over is written, for at most ``limit_s``."""
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
                return  # nobody is there any more


def install_patient_stderr() -> None:
    """Make standard error patient, for everything in this process that writes to ``sys.stderr``.

    Once; a process without a standard error, or whose ``sys.stderr`` is somebody else's already, is left alone.
    """
    now = sys.stderr
    if not isinstance(now, io.TextIOWrapper) or now is not sys.__stderr__:
        return
    now.flush()
    patient = PatientStderr(now.fileno(), now.encoding)
    sys.stderr = patient
    atexit.register(patient.drain, LAST_WRITE_S)
