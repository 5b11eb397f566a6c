"""gRPC channels to the servers of a cluster: the one place for how servers are reached and connections kept.

* **No proxy.** ``http_proxy`` and its like are meant for web pages. The parts of a cluster, and
  its clients, reach each other directly, unless a client asks for the proxy; loopback never
  goes through one.
* **Silent peers are dead.** A connection on which a call waits is probed by keepalive pings.
* **Sizes are bounded by this project**, where messages are built: gRPC's own limit of 4 MiB
  would refuse a few that are fine.
"""

import os
from collections.abc import Sequence
from urllib.parse import quote

import grpc
import grpc.aio

from ripieno.domain.addresses import Address, TcpAddress, UnixAddress

Options = Sequence[tuple[str, int | str]]

#: Seconds until a silent peer is pinged, and until a ping without an answer ends the connection: together
#: a peer that vanished without a word is noticed within ten seconds.
_KEEPALIVE_S, _ANSWER_S = 5, 4


def open_channel(address: Address, options: Options = (), *, use_proxy: bool = False) -> grpc.aio.Channel:
    """Open a channel with a connection of its own, to be used on the running event loop.

    Args:
        address: The server's address.
        options: gRPC channel options, put before the common ones.
        use_proxy: Go through the proxy that the environment names, if the address is not on this machine.
    """
    return grpc.aio.insecure_channel(target_of(address), options=_with_common(address, options, use_proxy))


def open_blocking_channel(address: Address, options: Options = ()) -> grpc.Channel:
    """Open a channel with a connection of its own, for programs without an event loop; never by a proxy."""
    return grpc.insecure_channel(target_of(address), options=_with_common(address, options, use_proxy=False))


def target_of(address: Address) -> str:
    """Return the address in gRPC's spelling, for channels and for servers alike."""
    if isinstance(address, UnixAddress):
        # gRPC takes the path for a part of a URL, so characters with a meaning in URLs are escaped.
        return f"unix:{quote(os.fsencode(address.path))}"
    return str(address)


def _with_common(address: Address, options: Options, use_proxy: bool) -> list[tuple[str, int | str]]:
    proxied = use_proxy and isinstance(address, TcpAddress) and not address.is_loopback
    # Over a unix socket the path would be the authority, which some servers refuse.
    authority = [("grpc.default_authority", "localhost")] if isinstance(address, UnixAddress) else []
    return [
        *options,
        *authority,
        ("grpc.enable_http_proxy", int(proxied)),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1_000),
        ("grpc.keepalive_timeout_ms", _ANSWER_S * 1_000),
        # By default gRPC would stop pinging after two pings during a call that waits long.
        ("grpc.http2.max_pings_without_data", 0),
        # Otherwise channels with equal arguments would share one connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
