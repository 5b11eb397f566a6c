"""Dask graphs as tasks: each node a task, whose dependencies are data dependencies."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dask._task_spec import Alias, DataNode, GraphNode, convert_legacy_graph, cull, fuse_linear_task_spec
from dask.core import flatten
from dask.local import get_sync
from dask.order import order
from dask.utils import key_split

from ripieno.domain.errors import RipienoError
from ripieno.functions.adapters.executor_future import ExecutorFuture
from ripieno.functions.adapters.large_values import LargeValues
from ripieno.functions.adapters.library_options import options_of_library
from ripieno.functions.calling.cluster import Cluster
from ripieno.functions.calling.future import Future
from ripieno.functions.calling.shared import default_cluster
from ripieno.functions.running.context import is_in_task
from ripieno.functions.terms.calls import FunctionCode, Submitted

_logger = logging.getLogger(__name__)


def get(dsk: Any, keys: Any, cluster: Cluster | None = None, **settings: Any) -> Any:
    """Run a Dask graph on a cluster, and return the values of keys: a scheduler for Dask.

    ::

        dask.compute(x, y, scheduler=ripieno.dask.get)
        dask.config.set(scheduler=ripieno.dask.get)

    What the keys do not need is left out, and chains of nodes are one task each. Values go from task to task; only
    those of ``keys`` come here. A node that raised is not called again; one whose worker was lost is. If one fails, or
    this call is interrupted, the tasks of the graph are cancelled. In a task, the graph runs in that task's slot.

    Args:
        dsk: A graph, of Dask's own nodes or of tuples, or an object that has one.
        keys: A key, or a list of keys, nested as you like.
        cluster: Where it runs; None takes ``ripieno.default_cluster()``.
        settings: What Dask gives its schedulers; not used.

    Returns:
        The value of the key; a tuple in the place of each list.

    Raises:
        Exception: what a node raised.
        ValueError: a node needs a key that the graph does not have.
        RipienoError: the graph could not be submitted.
    """
    graph = dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__()
    if is_in_task():
        return get_sync(graph, keys)
    wanted = set(flatten([keys]))
    nodes = fuse_linear_task_spec(cull(convert_legacy_graph(graph), wanted), wanted)
    for key in wanted - nodes.keys():
        raise ValueError(f"the graph has no key {key!r}")
    return _Run(default_cluster() if cluster is None else cluster, wanted).values_of(nodes, keys)


class _Run:
    """One graph on its way."""

    def __init__(self, cluster: Cluster, wanted: set[Any]) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._code = FunctionCode.of(_call_node, cluster.session_id)
        self._said = Submitted(options_of_library(cluster))
        self._large = LargeValues(cluster)
        #: What stands for the value of each key: itself, something stored, or a future.
        self._values: dict[Any, Any] = {}
        self._futures: list[Future[Any]] = []

    def values_of(self, nodes: Mapping[Any, GraphNode], keys: Any) -> Any:
        try:
            for node in _ordered(nodes):
                self._values[node.key] = self._placed(node)
            values = self._cluster.gather({key: self._values[key] for key in self._wanted})
        except BaseException:
            self._cluster.cancel_futures(self._futures)
            raise
        self._delete()
        return _shaped(keys, values)

    def _placed(self, node: GraphNode) -> Any:
        """Return what stands for the value of a node, whose dependencies have been placed."""
        if isinstance(node, DataNode):
            return self._large.reference_to(node.value)
        if isinstance(node, Alias):
            return self._values[node.target]
        code = replace(self._code, name=key_split(node.key))
        inputs = {key: self._values[key] for key in node.dependencies}
        made = ExecutorFuture if node.key in self._wanted else Future
        future = self._cluster.submit_code(code, (node, inputs), {}, self._said, made)
        self._futures.append(future)
        return future

    def _delete(self) -> None:
        """Delete from the cluster what nobody can ask for any more."""
        try:
            self._large.delete()
            if self._futures:
                self._cluster.session.delete_data([future.key for future in self._futures])
        except RipienoError as error:
            _logger.warning("the data of a graph's %d tasks was not deleted: %s", len(self._futures), error)


def _ordered(nodes: Mapping[Any, GraphNode]) -> Iterator[GraphNode]:
    """Yield nodes after those that they need, otherwise in the order that Dask recommends.

    Raises:
        ValueError: a node needs a key that is not there.
    """
    ranks = order(nodes)
    dependents: dict[Any, list[Any]] = {}
    missing: dict[Any, int] = {}
    for key, node in nodes.items():
        missing[key] = len(node.dependencies)
        for needed in node.dependencies:
            if needed not in nodes:
                raise ValueError(f"the graph has no key {needed!r}, which {key!r} needs")
            dependents.setdefault(needed, []).append(key)
    ready = [(ranks[key], place, key) for place, key in enumerate(nodes) if not missing[key]]
    heapq.heapify(ready)
    numbers = iter(range(len(nodes), 2 * len(nodes)))
    while ready:
        _, _, key = heapq.heappop(ready)
        yield nodes[key]
        for dependent in dependents.get(key, ()):
            missing[dependent] -= 1
            if not missing[dependent]:
                heapq.heappush(ready, (ranks[dependent], next(numbers), dependent))


def _shaped(keys: Any, values: Mapping[Any, Any]) -> Any:
    return tuple(_shaped(key, values) for key in keys) if isinstance(keys, list) else values[keys]


def _call_node(node: GraphNode, values: Mapping[Any, Any]) -> Any:
    """Compute a node's value, in a worker."""
    return node(values)
