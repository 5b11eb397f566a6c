"""Fixtures for pytest, which finds them by itself wherever ripieno is installed.

===================  ========  ========================================================================
fixture              scope     what it is
===================  ========  ========================================================================
``cluster``          function  a ``ripieno.Cluster``: the one below, with a session of the test's own
``ripieno_cluster``  session   a ``PrivateCluster``: started when first asked for, ended with the tests
===================  ========  ========================================================================

``ripieno_slots`` in pytest's configuration says how many tasks it runs at a time; 2 without it. Under pytest-xdist
each process has its own. This module imports the rest when a fixture is asked for: it is loaded in every run of pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ripieno.functions.calling.cluster import Cluster
    from ripieno.functions.calling.private import PrivateCluster

_SLOTS = "ripieno_slots"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the line of the configuration that says how large the cluster is."""
    parser.addini(_SLOTS, "How many tasks the cluster of the fixture `cluster` runs at a time.", default="2")


@pytest.fixture(scope="session")
def ripieno_cluster(pytestconfig: pytest.Config) -> Iterator[PrivateCluster]:
    """Start a cluster on this machine for all tests of this run; it ends with them, and keeps nothing."""
    from ripieno.functions.calling.private import PrivateCluster

    text = str(pytestconfig.getini(_SLOTS))
    if not text.isdecimal() or not int(text):
        raise pytest.UsageError(f"{_SLOTS} is a number of tasks, 1 or more, not {text!r}")
    private = PrivateCluster(int(text))
    yield private
    private.close()


@pytest.fixture
def cluster(ripieno_cluster: PrivateCluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Join the cluster with a session of this test's own; what has not ended with the test is cancelled.

    Functions of the test's module need not be importable by workers: they are sent by value where they are not.
    """
    from ripieno.functions.calling.connecting import connect

    with ExitStack() as stack:
        if request.module is not None and not _is_importable(request.module):
            import cloudpickle

            cloudpickle.register_pickle_by_value(request.module)
            stack.callback(cloudpickle.unregister_pickle_by_value, request.module)
        cluster = connect(ripieno_cluster.address)
        stack.callback(cluster.close, cancel=True)
        yield cluster


def _is_importable(module: ModuleType) -> bool:
    """Whether a worker, which has this process's search path, finds the module under its name."""
    path: list[str] | None = list(sys.path)
    found = None
    for name in _prefixes(module.__name__):
        found = PathFinder.find_spec(name, path)
        if found is None:
            return False
        path = list(found.submodule_search_locations or ())
    return found is not None and found.origin is not None and Path(found.origin) == Path(module.__file__ or "")


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: place + 1]) for place in range(len(parts)))
