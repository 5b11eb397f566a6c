"""Testing code that runs on a cluster: without one, in this process; and with a real one, from pytest.

::

    from ripieno.testing import LocalCluster, run_task

    def test_a_function_of_mine():
        with LocalCluster() as cluster:
            assert cluster.submit(total, cluster.map(square, range(4))).result() == 14

    def test_a_handler_of_mine():
        assert run_task(handle, b"payload", expected_output_keys=["sum"]).results["sum"] == b"3"

Three ways, from the quickest to the truest:

* ``run_task`` runs a worker's handler on one task, and returns what it made.
* ``LocalCluster`` has the interface of ``Cluster``, and runs functions in this process, one after the other.
* The fixtures ``cluster`` and ``ripieno_cluster`` give a test a real cluster, which starts once for all tests. pytest
  finds them by itself wherever ripieno is installed (``ripieno.testing.plugin``).

The first two need no server: ``pip install 'ripieno[functions]'``. Names are imported when they are first used,
since pytest imports this package in each of its runs.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from ripieno.testing.local_cluster import LocalCluster
    from ripieno.worker.running.in_process import Outcome, Results, run_task, run_task_async

_HOMES = {
    "LocalCluster": "ripieno.testing.local_cluster",
    "Outcome": "ripieno.worker.running.in_process",
    "Results": "ripieno.worker.running.in_process",
    "run_task": "ripieno.worker.running.in_process",
    "run_task_async": "ripieno.worker.running.in_process",
}

__all__ = ["LocalCluster", "Outcome", "Results", "run_task", "run_task_async"]


def __getattr__(name: str) -> _Any:
    """Import an exported name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ripieno.testing' has no attribute {name!r}")
    value = getattr(_importlib.import_module(home), name)
    globals()[name] = value
    return value
