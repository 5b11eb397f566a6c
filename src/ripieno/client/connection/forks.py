"""Clients and forks: gRPC's threads and descriptors do not survive a fork.

* Just before a fork, blocking clients that nobody is calling are put to rest: their connections
  end, and with them gRPC in this process. The parent's clients reconnect with their next call.
* In the child, clients from before the fork refuse calls and say why; the child opens one of its own.
* Where gRPC could not be put to rest (a call was under way, or an ``AsyncClient`` was open), the
  child cannot use gRPC at all: it would wait for ever, or disturb its parent's connections,
  which share their descriptors. Opening a client there raises an error that says what to do instead.
"""

import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol


class Sleeper(Protocol):
    """Something that uses gRPC and can stop doing so for a while."""

    def try_to_rest(self) -> bool:
        """Stop using gRPC until the next call. Return False, with nothing changed, if a call is under way."""


#: Held while a call begins, and during a fork.
gate = threading.Lock()

_sleepers: "weakref.WeakSet[Sleeper]" = weakref.WeakSet()
_ends: list[Callable[[], None]] = []
_forgets: list[Callable[[], None]] = []
_open_connections = 0
_unusable = False
_gate_held = False
#: How long a fork waits for the gate. It is held for milliseconds, but a fork in a signal handler may interrupt
#: its holder.
_GATE_S = 5.0


def register(sleeper: Sleeper) -> None:
    """Have ``sleeper`` put to rest before each fork of this process."""
    _sleepers.add(sleeper)


def share(end: Callable[[], None], forget: Callable[[], None]) -> None:
    """Register what sleepers share: ``end`` is called once all of them rest, ``forget`` in a forked child."""
    _ends.append(end)
    _forgets.append(forget)


def check() -> None:
    """Make sure that this process can use gRPC.

    Raises:
        RuntimeError: the process was forked while its parent could not put gRPC to rest.
    """
    if _unusable:
        raise RuntimeError(
            "no client can be opened in this process: it was forked while its parent had a call of a client under"
            " way or an AsyncClient open; fork at another time, or start processes with multiprocessing's 'spawn'"
            " or 'forkserver'"
        )


def connection_opened() -> None:
    """Count a connection that begins to use gRPC; errors as in ``check``."""
    global _open_connections
    check()
    _open_connections += 1


def connection_closed() -> None:
    """Stop counting a connection, which no longer uses gRPC."""
    global _open_connections
    _open_connections -= 1


def _before() -> None:
    global _gate_held
    _gate_held = gate.acquire(timeout=_GATE_S)
    if _gate_held and _open_connections and all(sleeper.try_to_rest() for sleeper in list(_sleepers)):
        for end in _ends:
            end()
        gc.collect()  # a call in a reference cycle may hold the last channel, and gRPC ends with that


def _in_parent() -> None:
    if _gate_held:
        gate.release()


def _in_child() -> None:
    global _open_connections, _unusable
    _unusable = _unusable or _open_connections > 0
    _open_connections = 0
    for forget in _forgets:
        forget()
    _in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
