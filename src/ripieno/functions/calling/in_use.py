"""The clusters that are in use: those of ``with`` blocks that have not ended, the innermost first."""

from __future__ import annotations

import threading
import weakref

_lock = threading.Lock()
_entered: list[weakref.ref[object]] = []


def enter(cluster: object) -> None:
    """Note that a block of a cluster has begun."""
    with _lock:
        _entered.append(weakref.ref(cluster))


def leave(cluster: object) -> None:
    """Note that a cluster is closed; no-op for one of which no block has begun."""
    with _lock:
        _entered[:] = [entered for entered in _entered if entered() not in (None, cluster)]


def innermost() -> object:
    """Return the cluster of the block that began last and has not ended, in any thread; None if there is none."""
    with _lock:
        found = [cluster for entered in _entered if (cluster := entered()) is not None]
    return found[-1] if found else None
