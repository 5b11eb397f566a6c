"""An HTTP/2 client connection on a socket, with what an agent's streaming gRPC calls need.

``grpc.aio`` takes 0.9 ms of processor time for one ``Process`` call of eight messages, this module a
quarter of it (``benchmarks.floors``), and that is most of what an attempt of a worker without our SDK
costs the agent. The library h2 would bring half the gain, but closes a connection as soon as its
peer sends GOAWAY, with which servers begin to drain: a call that is under way then must be able to finish.

What the bytes mean is decided in ``receiving`` and ``streams``, without I/O; this module has the socket
and the clock. Any error ends this connection alone, with a reason that its calls are given.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import cast

from ripieno.agent.transport import frames
from ripieno.agent.transport.frames import Violation, name_of_error
from ripieno.agent.transport.keepalive import LOOK_S, SETTINGS_S, Finding, Keepalive, Watch, host_is_gone, probe_host
from ripieno.agent.transport.receiving import Receiver
from ripieno.agent.transport.streams import Reader, Stream, Streams
from ripieno.domain.addresses import UnixAddress, parse_address

#: Most frames that may wait while the peer sends frames that need an answer but does not read.
MOST_UNSENT = 1_000
#: How long the peer may take to read the last bytes after ``close``.
FAREWELL_S = 1.0

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """The client's end of one HTTP/2 connection. Belongs to the event loop's thread.

    Args:
        keepalive: How long the peer may be silent; None sets no limit as long as its host responds.
    """

    def __init__(self, keepalive: Keepalive | None = None) -> None:
        self._keepalive = keepalive
        self._streams = Streams(self._send, self.close)
        self._receiver = Receiver(self._streams)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._made_at = self._loop.time()
        self._watch = Watch(keepalive, self._made_at)
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    @property
    def usable(self) -> bool:
        """Whether a new stream may be opened."""
        return self._transport is not None and not self._transport.is_closing() and self._streams.ending is None

    def open(self, header_block: bytes, headers_bytes: int, reader: Reader) -> Stream:
        """Open a stream; see ``Streams.open``."""
        return self._streams.open(header_block, headers_bytes, reader)

    def close(self) -> None:
        """Close the connection and all its streams. Sent bytes have ``FAREWELL_S`` to be read."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._streams.ending = self._streams.ending or "the connection was closed"
            transport.close()
            self._loop.call_later(FAREWELL_S, transport.abort)

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the connection preface and our settings, and start the timer."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass
        connected = transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            self._socket = connected
            probe_host(connected)
        self._streams.greet()
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        """End all streams: the socket was closed."""
        self._lose(f"the connection was lost: {error}" if error else "the connection was closed")

    def pause_writing(self) -> None:
        """Hold back frames: the socket's buffer is full."""
        self._streams.paused = True

    def resume_writing(self) -> None:
        """Send the frames that were held back: the socket's buffer has room again."""
        self._streams.resume()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; an error in them, or in the agent, ends the connection."""
        if self._over:
            return
        self._watch.heard_at = self._loop.time()
        try:
            self._receiver.receive(data)
            if self._streams.unsent > MOST_UNSENT:
                raise Violation(frames.ENHANCE_YOUR_CALM, "it asks for answers and does not read them")
        except Violation as violation:
            self._fail(violation.code, str(violation))
        except Exception as error:  # noqa: BLE001 - a bug ends this connection, and nothing else
            _log.exception("a mistake in the agent ends a connection")
            self._fail(frames.INTERNAL_ERROR, f"the agent made a mistake: {error!r}")

    # ------------------------------------------------------------------ by the clock

    def _look(self) -> None:
        now = self._loop.time()
        slept = self._watch.slept(now)
        finding = self._watch.look(now)
        self._streams.said_something()
        if slept:
            # The loop slept, and bytes that arrived meanwhile are not read yet, so no deadline is judged now.
            self._made_at = now if not self._streams.acknowledged else self._made_at
        elif not self._streams.acknowledged and now - self._made_at > SETTINGS_S:
            self._fail(frames.SETTINGS_TIMEOUT, f"no settings were said or taken within {SETTINGS_S:g} s")
        elif self._socket is not None and host_is_gone(self._socket):
            self._abort(f"nothing comes from its host any more ({self._silent(now)})")
        elif finding is Finding.DEAD:
            self._abort(f"nothing was heard for {now - self._watch.heard_at:.0f} s")
        if self._over:
            return
        if finding is Finding.ASK:
            self._streams.ping()
        self._timer = self._loop.call_later(LOOK_S, self._look)

    # ------------------------------------------------------------------ inside

    def _silent(self, now: float) -> str:
        return f"silent for {now - self._watch.heard_at:.0f} s"

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _fail(self, error_code: int, text: str) -> None:
        """Close the connection for a broken rule or a bug of ours, telling the peer with GOAWAY."""
        self._lose(f"the peer does not speak HTTP/2 as it should ({name_of_error(error_code)}): {text}")
        self._streams.go_away(error_code, text)
        self.close()

    def _abort(self, reason: str) -> None:
        """Drop the connection without telling the peer, which is gone."""
        self._lose(reason)
        if self._transport is not None:
            self._transport.abort()

    def _lose(self, reason: str) -> None:
        if not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            self._streams.lose(reason)


async def connect(address: str, *, keepalive: Keepalive | None = None) -> Connection:
    """Connect to ``unix:/path`` or ``HOST:PORT``.

    Raises:
        OSError: if nothing accepts connections at the address.
    """
    loop = asyncio.get_running_loop()
    made = partial(Connection, keepalive)
    where = parse_address("address", address)
    if isinstance(where, UnixAddress):
        _, connection = await loop.create_unix_connection(made, where.path)
    else:
        _, connection = await loop.create_connection(made, where.host, where.port)
    return connection
