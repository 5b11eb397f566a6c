"""When a silent peer is given up: what is asked of it, and of the kernel.

A process that was stopped answers nothing for a while, and its host still acknowledges what it is
sent; of a host that vanished nothing comes at all. The kernel tells the two apart and is asked about
any TCP connection (``host_is_gone``). A PING is asked where its answer may be counted on: the
control plane is given up soon, since an agent may dial another replica at no loss; workers made with our
SDK late, since what they run would be lost; workers of others never, since gRPC's servers end
connections that ask more often than every five minutes, and a server on one thread answers nothing
while its handler computes.

Nobody is given up by someone who slept: a look that comes late starts the waiting anew.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from enum import Enum, auto

#: Between two looks at a connection.
LOOK_S = 1.0
#: A look that is later than this was not awake: its process was stopped, or its loop blocked.
LATE_S = 1.0
#: How long a peer may take to say and to acknowledge its settings.
SETTINGS_S = 20.0
#: A host that acknowledges nothing for so long is gone. The kernel probes an idle connection after
#: ``_PROBE_AFTER_S`` and then every ``_PROBE_S``.
HOST_S = 7.0
_PROBE_AFTER_S, _PROBE_S, _PROBES = 3, 2, 3
#: Unanswered probes, or retransmissions, that it takes as well: one may be lost.
_UNANSWERED = 2

#: Where the kernel's tcp_info has retransmissions, probes and milliseconds since the last acknowledgement.
_TCP_INFO = struct.Struct("=2xBB4x48xL")


@dataclass(frozen=True, slots=True)
class Keepalive:
    """How long a peer may say nothing.

    Attributes:
        silence_s: After so long it is asked.
        answer_s: It has so long to answer.
    """

    silence_s: float
    answer_s: float


#: Together, with a look a second, less than 10 s.
CONTROL_PLANE = Keepalive(3.5, 4.0)
#: Our workers' servers may be asked every 10 s; one that was stopped for 15 s is not given up.
SDK_WORKER = Keepalive(12.0, 20.0)


class Finding(Enum):
    """What a look at a connection finds."""

    FINE = auto()
    ASK = auto()
    DEAD = auto()


class Watch:
    """Decides when one peer is asked and when it is given up. Knows no clock: it is told the time.

    Attributes:
        heard_at: When the peer said something, seconds.
    """

    __slots__ = ("_asked_at", "_due_at", "_keepalive", "heard_at")

    def __init__(self, keepalive: Keepalive | None, now: float) -> None:
        self.heard_at = now
        self._keepalive = keepalive
        self._asked_at: float | None = None
        self._due_at = now + LOOK_S

    def look(self, now: float) -> Finding:
        """Look once; to be called every ``LOOK_S``."""
        slept = now - self._due_at > LATE_S
        self._due_at = now + LOOK_S
        keepalive, asked_at = self._keepalive, self._asked_at
        if keepalive is None:
            return Finding.FINE
        if asked_at is not None and self.heard_at < asked_at:
            if slept:
                self._asked_at = now
                return Finding.ASK
            return Finding.DEAD if now - asked_at >= keepalive.answer_s else Finding.FINE
        if now - self.heard_at < keepalive.silence_s:
            return Finding.FINE
        self._asked_at = now
        return Finding.ASK

    def slept(self, now: float) -> bool:
        """Whether the look that is due would be late."""
        return now - self._due_at > LATE_S


def probe_host(connected: socket.socket) -> None:
    """Have the kernel probe the host at the other end while nothing is said."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def host_is_gone(connected: socket.socket) -> bool:
    """Whether nothing, not even an acknowledgement, has come from the host at the other end lately.

    TCP_USER_TIMEOUT would end connections as well whose peer acknowledges and takes nothing, as
    a process that was stopped does. False where the kernel cannot be asked.
    """
    if sys.platform != "linux":
        return False
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return False
    if len(info) < _TCP_INFO.size:
        return False
    retransmissions: int
    probes: int
    silent_ms: int
    retransmissions, probes, silent_ms = _TCP_INFO.unpack(info)
    return max(retransmissions, probes) >= _UNANSWERED and silent_ms >= HOST_S * 1_000
