"""The cluster that libraries use where a caller names none."""

from __future__ import annotations

import os
import threading

from ripieno.functions.calling import in_use
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.connecting import connect
from ripieno.functions.calling.exiting import before_exit

_lock = threading.Lock()
#: Clusters that stay open until the program ends, by the process that joined them and their address.
_kept: dict[tuple[int, str | None], Cluster] = {}
_closes_at_exit = False


def default_cluster(address: str | None = None) -> Cluster:
    """Return the cluster in use; joblib's backend, Dask's scheduler and ``Executor`` run on it if they are given none.

    It is the cluster of the innermost ``with ripieno.connect() as cluster:`` that has not ended, in any thread. Where
    there is none, a cluster is joined or started as ``connect`` does, and kept until the program ends.

    Args:
        address: The address of the cluster; one that is given is joined once, whatever is in use, and kept likewise.

    Raises:
        RipienoError: as for ``connect``.
    """
    global _closes_at_exit
    if address is None and (entered := cluster_in_use()) is not None:
        return entered
    with _lock:
        place = (os.getpid(), address)
        cluster = _kept.get(place)
        if cluster is None or cluster.is_closed:
            cluster = _kept[place] = connect(address)
            if not _closes_at_exit:
                _closes_at_exit = True
                before_exit(_close_all)
        return cluster


def cluster_in_use() -> Cluster | None:
    """Return the cluster of the innermost block that has not ended, in any thread; None if there is none."""
    entered = in_use.innermost()
    return entered if isinstance(entered, Cluster) else None


def _close_all() -> None:
    for (process, _), cluster in list(_kept.items()):
        if process == os.getpid():
            cluster.close(cancel=True)
