"""Processes that a handler forks, and what they must not keep of their worker.

A forked child (``multiprocessing``'s default on Linux before Python 3.14, ``os.fork``) is a copy of
the worker: with its handlers of signals, its sockets, and the stack that leads back into the
worker's loop. Left so, SIGTERM would not end the child (``Pool.terminate`` would wait for ever), a
signal to it would be noticed by the worker, its copies of the sockets would keep a dead worker's
address alive, and a handler that raises in it would make it a second worker that nobody feeds.

Children that are started by ``exec`` (``subprocess``, ``spawn``, ``forkserver``) inherit none of this:
Python and gRPC mark their descriptors as not inheritable.
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
        #: By signal, the worker's handler and the one that a child is to have.
        self.handlers: Mapping[signal.Signals, tuple[object, object]] = {}
        self.address = ""

    def become_child(self) -> None:
        """Rid a child of its worker's signals and sockets; called in the child, right after a fork."""
        if not self.address:
            return  # the process does not serve, or no longer
        self.is_forked = True
        signal.set_wakeup_fd(-1)
        for number, (ours, default) in self.handlers.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, default)  # type: ignore[arg-type]
        blind_sockets(self.address)


_this_process = _ThisProcess()


def guard_forks(address: str, handlers: Mapping[signal.Signals, object]) -> None:
    """Make children that are forked from now on give up the worker's signals and sockets.

    Args:
        address: The address that the worker serves at; empty once it serves no more.
        handlers: The worker's signal handlers. A child has the defaults instead, unless a handler of
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
    """Return whether this process was forked by a handler, so that it is no worker."""
    return _this_process.is_forked


def end_child(error: BaseException | None) -> NoReturn:
    """End a child whose handler has returned or raised, as ``multiprocessing`` ends its own.

    Exit functions that the worker registered are for the worker's own exit and are not called.
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
    with suppress(Exception):  # the child may have closed its standard error
        print(text, file=sys.stderr)


def blind_sockets(address: str) -> None:
    """Replace this process's copies of the sockets that belong to ``address`` by the null device.

    Closing them would free their numbers, which gRPC's copied state still refers to.
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
    """Return whether a descriptor is a socket that listens at ``address`` or was accepted there."""
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
