"""Ripieno runs tasks on many workers and loses none.

::

    import ripieno

    with ripieno.connect() as cluster:                     # joins a cluster, or starts one for this program
        print(cluster.submit(pow, 2, 10).result())

This module exports the API of functions as tasks (``ripieno.functions``). Tasks of bytes, in any language, are
submitted with ``ripieno.client`` and handled with ``ripieno.worker``. Names are imported when they are first used.
"""

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

# gRPC reads this variable when it is first imported. Its fork handlers, on by default, do not work beside
# the thread with which grpc.aio waits for events: children of a program with an open connection
# crashed three times in ten (grpcio 1.8x). Without the handlers, a child that does not use gRPC is safe.
_os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Without it gRPC writes notes on closed connections to standard error, which its callers hear of by other ways.
_os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

if _TYPE_CHECKING:
    from ripieno.client import TaskCancelledError, TaskFailedError
    from ripieno.domain.errors import RipienoError
    from ripieno.functions.adapters.executor import Executor
    from ripieno.functions.calling.cluster import Cluster
    from ripieno.functions.calling.connecting import connect
    from ripieno.functions.calling.future import Future
    from ripieno.functions.calling.shared import default_cluster
    from ripieno.functions.calling.stored import Stored
    from ripieno.functions.calling.waiting import as_completed, gather, wait
    from ripieno.functions.running.context import Deferred, TaskContext, current
    from ripieno.functions.terms.decorator import TaskFunction, task
    from ripieno.functions.terms.errors import ClusterError, FutureMisuseError, NotPicklableError, RemoteError
    from ripieno.functions.terms.options import Retry

#: The module in which each exported name is defined.
_HOMES = {
    "Cluster": "ripieno.functions.calling.cluster",
    "ClusterError": "ripieno.functions.terms.errors",
    "Deferred": "ripieno.functions.running.context",
    "Executor": "ripieno.functions.adapters.executor",
    "Future": "ripieno.functions.calling.future",
    "FutureMisuseError": "ripieno.functions.terms.errors",
    "NotPicklableError": "ripieno.functions.terms.errors",
    "RemoteError": "ripieno.functions.terms.errors",
    "Retry": "ripieno.functions.terms.options",
    "RipienoError": "ripieno.domain.errors",
    "Stored": "ripieno.functions.calling.stored",
    "TaskCancelledError": "ripieno.client",
    "TaskContext": "ripieno.functions.running.context",
    "TaskFailedError": "ripieno.client",
    "TaskFunction": "ripieno.functions.terms.decorator",
    "as_completed": "ripieno.functions.calling.waiting",
    "connect": "ripieno.functions.calling.connecting",
    "current": "ripieno.functions.running.context",
    "default_cluster": "ripieno.functions.calling.shared",
    "gather": "ripieno.functions.calling.waiting",
    "task": "ripieno.functions.terms.decorator",
    "wait": "ripieno.functions.calling.waiting",
}

__all__ = [
    "Cluster",
    "ClusterError",
    "Deferred",
    "Executor",
    "Future",
    "FutureMisuseError",
    "NotPicklableError",
    "RemoteError",
    "Retry",
    "RipienoError",
    "Stored",
    "TaskCancelledError",
    "TaskContext",
    "TaskFailedError",
    "TaskFunction",
    "as_completed",
    "connect",
    "current",
    "default_cluster",
    "gather",
    "task",
    "wait",
]


def __getattr__(name: str) -> _Any:
    """Import an exported name when it is first used: `import ripieno` alone takes a few milliseconds."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ripieno' has no attribute {name!r}")
    value = getattr(_importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
