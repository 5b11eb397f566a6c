"""``CommandProcess``: a shell command with its process group, read in bounded memory and ended without fail."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

_SHELL = "/bin/sh"
_READ_BYTES = 64 * 1024

#: Seconds between two looks whether the command is to be ended, or has ended and left its pipes to a child.
_LOOK_UP_S = 0.1
#: Seconds between SIGTERM and SIGKILL. The agent ends a worker whose handler does not return soon.
_GRACE_S = 0.5
_NAP_S = 0.01

#: How much of the end of standard error goes into the reason of a failure.
STDERR_END_BYTES = 4 * 1024
#: How much of the end of the standard output of a failed command is printed by the worker.
STDOUT_END_BYTES = 64 * 1024


class CommandProcess:
    """A running command; a context manager, at whose end nothing of the command runs any more.

    Attributes:
        stderr_end: The last bytes of its standard error.
        exit_code: Its exit code, or minus the signal that ended it; once the pieces have ended.
    """

    def __init__(self, line: bytes, cwd: str | None, environment: Mapping[str, str]) -> None:
        """Start the command.

        Raises:
            OSError: the directory cannot be entered, or the shell cannot be started.
        """
        self._process = subprocess.Popen(
            [_SHELL, "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        self.stderr_end = b""
        self._stdout_end = b""
        self.exit_code = 0

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the command and its children, if any of them runs, and close the pipes."""
        self._end()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def pieces(self, is_cancelled: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the standard output as it comes, until the command has ended; standard error is passed on meanwhile.

        The command is ended when ``is_cancelled`` says so. A child that it leaves behind and that keeps the pipes open
        is not waited for.
        """
        out, err = self._process.stdout, self._process.stderr
        assert out is not None and err is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            while selector.get_map():
                if is_cancelled():
                    break
                ready = selector.select(_LOOK_UP_S)
                if not ready and self._has_ended():
                    break
                for key, _ in ready:
                    data = os.read(key.fd, _READ_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is out:
                        self._stdout_end = (self._stdout_end + data)[-STDOUT_END_BYTES:]
                        yield data
                    else:
                        self.stderr_end = (self.stderr_end + data)[-STDERR_END_BYTES:]
                        _write(2, data)
        while not is_cancelled() and not self._has_ended():
            time.sleep(_NAP_S)
        self._end()

    def relay_stdout(self) -> None:
        """Print the end of the standard output on that of this process."""
        _write(1, self._stdout_end)

    def _has_ended(self) -> bool:
        """Return whether the command has ended, if possible without forgetting it: its number is the group's, too."""
        if self._process.returncode is not None:
            return True
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None

    def _end(self) -> None:
        if self._process.returncode is not None:
            return
        if not self._has_ended():
            self._signal(signal.SIGTERM)
            ends_at = time.monotonic() + _GRACE_S
            while not self._has_ended() and time.monotonic() < ends_at:
                time.sleep(_NAP_S)
        self._signal(signal.SIGKILL)
        self.exit_code = self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # Gone already; or, on macOS, all that is left of the group waits to be forgotten.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _write(descriptor: int, data: bytes) -> None:
    with suppress(OSError):  # nobody reads what this worker prints
        while data:
            data = data[os.write(descriptor, data) :]
