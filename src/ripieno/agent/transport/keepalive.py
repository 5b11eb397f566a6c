"""When a silent peer counts as dead, by PING and by asking the kernel.

A process that was stopped answers nothing for a while, but its host still acknowledges packets; from a
host that vanished nothing comes at all. The kernel tells the two apart and is asked about any TCP
connection (``host_is_gone``). A PING is sent where an answer may be relied on: the control plane
counts as dead soon, since an agent may dial another replica at no loss; workers made with our SDK
late, since their attempts would be lost; other workers are never sent one, since gRPC's servers end
connections that ping more often than every five minutes, and a server on one thread answers nothing
while its handler computes.

If this process itself slept, no peer is judged: a check that comes late starts the wait anew.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from enum import Enum, auto

#: Seconds between two checks of a connection.
LOOK_S = 1.0
#: A check later than this means that our process was stopped, or its event loop blocked.
LATE_S = 1.0
#: How long a peer may take to send its settings and acknowledge ours.
SETTINGS_S = 20.0
#: A host that acknowledges nothing for this long is gone. The kernel probes an idle connection after
#: ``_PROBE_AFTER_S`` and then every ``_PROBE_S``.
HOST_S = 7.0
_PROBE_AFTER_S, _PROBE_S, _PROBES = 3, 2, 3
#: Unanswered probes or retransmissions that are required as well, since one packet may be lost.
_UNANSWERED = 2

#: Layout of the kernel's tcp_info: retransmissions, probes, and milliseconds since the last acknowledgement.
_TCP_INFO = struct.Struct("=2xBB4x48xL")


@dataclass(frozen=True, slots=True)
class Keepalive:
    """How long a peer may be silent.

    Attributes:
        silence_s: Seconds of silence after which a PING is sent.
        answer_s: Seconds that the peer has to answer the PING.
    """

    silence_s: float
    answer_s: float


#: A dead control plane is found in less than 10 s: the sum of both, with a check each second.
CONTROL_PLANE = Keepalive(3.5, 4.0)
#: Our workers' servers allow a PING every 10 s. A worker that was stopped for 15 s does not count as dead.
SDK_WORKER = Keepalive(12.0, 20.0)


class Finding(Enum):
    """The result of one check of a connection: do nothing, send a PING, or drop the connection."""

    FINE = auto()
    ASK = auto()
    DEAD = auto()


class Watch:
    """Decides when to send one peer a PING and when it counts as dead. The caller passes the time.

    Attributes:
        heard_at: When bytes of the peer arrived last, seconds of the caller's clock.
    """

    __slots__ = ("_asked_at", "_due_at", "_keepalive", "heard_at")

    def __init__(self, keepalive: Keepalive | None, now: float) -> None:
        self.heard_at = now
        self._keepalive = keepalive
        self._asked_at: float | None = None
        self._due_at = now + LOOK_S

    def look(self, now: float) -> Finding:
        """Check the peer once. Call every ``LOOK_S``."""
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
        """Whether a check made now would be late, because this process slept."""
        return now - self._due_at > LATE_S


def probe_host(connected: socket.socket) -> None:
    """Enable TCP keepalive, so that the kernel probes the peer's host while the connection is idle."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def host_is_gone(connected: socket.socket) -> bool:
    """Whether nothing, not even an acknowledgement, has come from the peer's host for ``HOST_S``.

    TCP_USER_TIMEOUT would also end connections whose peer acknowledges but reads nothing, as
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
