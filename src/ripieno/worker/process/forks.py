"""What a process that a handler forks must not keep of its worker.

A forked child (``multiprocessing``'s default on Linux before Python 3.14, ``os.fork``) is a copy of
the worker: with its handlers of signals, its sockets, and the stack that leads back into the
worker's loop. Left so, SIGTERM would not end it (``Pool.terminate`` would wait for ever), a signal
to it would be noticed by the worker, its copies of the sockets would keep a dead worker's address
alive, and a handler that raises in it would make it a second worker that nobody feeds.

Children that are started by ``exec`` (``subprocess``, ``spawn``, ``forkserver``) inherit none of it:
Python and gRPC mark their descriptors so.
"""

import os
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_UNIX = "unix:"


class _ThisProcess:
    """Whether this process is a worker, or a child that one of its handlers forked."""

    def __init__(self) -> None:
        self.is_forked = False
        self.guarding = False
        #: What the worker does on signals, and what a child is to do.
        self.handlers: Mapping[signal.Signals, tuple[object, object]] = {}
        self.address = ""

    def become_child(self) -> None:
        """Right after a fork, in the child."""
        if not self.address:
            return  # it does not serve, or no more
        self.is_forked = True
        signal.set_wakeup_fd(-1)
        for number, (ours, default) in self.handlers.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, default)  # type: ignore[arg-type]
        blind_sockets(self.address)


_this_process = _ThisProcess()


def guard_forks(address: str, handlers: Mapping[signal.Signals, object]) -> None:
    """From now on, children that are forked let go of the worker.

    Args:
        address: Where the worker serves; empty once it does no more.
        handlers: What it does on signals. A child takes the defaults instead, where no handler of
            tasks has set something else meanwhile.
    """
    _this_process.address = address
    _this_process.is_forked = False
    defaults = {signal.SIGINT: signal.default_int_handler}
    _this_process.handlers = {number: (ours, defaults.get(number, signal.SIG_DFL)) for number, ours in handlers.items()}
    if not _this_process.guarding and hasattr(os, "register_at_fork"):
        _this_process.guarding = True
        os.register_at_fork(after_in_child=_this_process.become_child)


def is_forked() -> bool:
    """Whether this process was forked by a handler, and is no worker."""
    return _this_process.is_forked


def end_child(error: BaseException | None) -> NoReturn:
    """End a child whose handler has returned or raised, as ``multiprocessing`` ends its own.

    What the worker registered to be done at its exit is the worker's and is not done.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code and not isinstance(error.code, int):
            _tell(str(error.code))
    elif error is not None:
        code = 1
        _tell("".join(traceback.format_exception(error)))
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


def _tell(text: str) -> None:
    with suppress(Exception):  # it may have closed it
        print(text, file=sys.stderr)


def blind_sockets(address: str) -> None:
    """Put nothing in the place of this process's copies of the sockets that belong to ``address``.

    Closing them would free their numbers, which gRPC's own copies of its state still name.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for descriptor in _descriptors():
            if descriptor > 2 and descriptor != nothing and _belongs(descriptor, address):
                os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def _descriptors() -> list[int]:
    for listing in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return [int(entry.name) for entry in Path(listing).iterdir() if entry.name.isdigit()]
    return list(range(3, 256))


def _belongs(descriptor: int, address: str) -> bool:
    """Whether a socket listens at ``address`` or came of listening there."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        view = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        name = view.getsockname()
    except OSError:
        return False
    finally:
        view.detach()
    if address.startswith(_UNIX):
        return name in (address.removeprefix(_UNIX), os.fsencode(address.removeprefix(_UNIX)))
    return isinstance(name, tuple) and str(name[1]) == address.rpartition(":")[2]
