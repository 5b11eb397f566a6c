"""Proxies that the environment names, for libraries that use them: the clients of object stores."""

import os
from collections.abc import MutableMapping

_LOOPBACK = ("localhost", "127.0.0.0/8", "::1")


def keep_loopback_direct(environment: MutableMapping[str, str] = os.environ) -> None:
    """Exempt this machine's own addresses from the proxy, for this process and those that it starts.

    The environment decides about other machines: a company's network may reach the object store only
    by its proxy. gRPC's channels are made in ``ripieno.wire.channels``, by default without a proxy.
    """
    # Both spellings are extended: programs read one of the two, and not all of them the same one first.
    named = [name for name in ("no_proxy", "NO_PROXY") if name in environment] or ["no_proxy"]
    for name in named:
        present = [one.strip() for one in environment.get(name, "").split(",") if one.strip()]
        if "*" not in present:
            environment[name] = ",".join([*present, *(one for one in _LOOPBACK if one not in present)])
