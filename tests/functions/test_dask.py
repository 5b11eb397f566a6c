"""Graphs of the real Dask on a cluster."""

import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array
import dask.bag
import numpy as np
import pytest
from dask._task_spec import DataNode, Task, TaskRef

import ripieno
import ripieno.dask
from functions import work
from functions.waiting import until
from ripieno.client import ResultStatus, TaskStatus


def rows(cluster: ripieno.Cluster) -> list[Any]:
    return list(cluster.client.list_tasks(f"session_id={cluster.session_id}"))


def test_delayed_functions(cluster: ripieno.Cluster) -> None:
    add = dask.delayed(operator.add)
    total = dask.delayed(sum)([add(number, 1) for number in range(10)])
    assert total.compute(scheduler=ripieno.dask.get, cluster=cluster) == 55
    one, two = dask.compute(add(1, 2), {"nested": [add(3, 4)]}, scheduler=ripieno.dask.get, cluster=cluster)
    assert (one, two) == (3, {"nested": [7]})


def test_bags(cluster: ripieno.Cluster) -> None:
    words = dask.bag.from_sequence(["a b", "b c", "c b"] * 5, npartitions=4).map(str.split).flatten()
    with dask.config.set(scheduler=ripieno.dask.get):  # the cluster in use
        assert dict(words.frequencies().compute()) == {"a": 5, "b": 15, "c": 10}
        assert sorted(words.distinct().compute()) == ["a", "b", "c"]
    assert {row.status for row in rows(cluster)} == {TaskStatus.COMPLETED}


def test_arrays(cluster: ripieno.Cluster) -> None:
    numbers = np.arange(360_000, dtype=float).reshape(600, 600)
    array = dask.array.from_array(numbers, chunks=(300, 300))
    product, mean = dask.compute(array @ array.T, (array + 1).mean(), scheduler=ripieno.dask.get)
    np.testing.assert_allclose(product, numbers @ numbers.T)
    assert mean == pytest.approx(numbers.mean() + 1)


def test_chains_are_one_task_and_nothing_is_left_behind(cluster: ripieno.Cluster) -> None:
    value: Any = 0
    for _ in range(10):
        value = dask.delayed(operator.add)(value, 1)
    unused = dask.delayed(work.fail)("never called")
    assert value.compute(scheduler=ripieno.dask.get, cluster=cluster) == 10
    assert [row.status for row in rows(cluster)] == [TaskStatus.COMPLETED] and unused is not None
    results = list(cluster.client.list_results(f"session_id={cluster.session_id}"))
    assert len(results) == 1 and results[0].status is not ResultStatus.COMPLETED  # its data was deleted


def test_graphs_of_tuples_and_of_nodes(cluster: ripieno.Cluster) -> None:
    old = {"x": 1, "y": (operator.add, "x", 2), "z": (sum, ["x", "y"]), "w": "z", ("t", 0): (work.capture, ["y"])}
    assert ripieno.dask.get(old, ["z", ["w", "x"], ("t", 0)], cluster=cluster) == (4, (4, 1), (([3],), {}))
    assert ripieno.dask.get(old, "y", cluster=cluster) == 3
    new = {"x": DataNode("x", 5), "y": Task("y", operator.mul, TaskRef("x"), 3)}
    assert ripieno.dask.get(new, "y", cluster=cluster) == 15


def test_large_data_of_a_graph_is_stored_once(cluster: ripieno.Cluster) -> None:
    table = np.ones(200_000)
    graph = {"table": DataNode("table", table)} | {
        f"part-{place}": Task(f"part-{place}", operator.getitem, TaskRef("table"), place) for place in range(5)
    }
    assert ripieno.dask.get(graph, [f"part-{place}" for place in range(5)], cluster=cluster) == (1.0,) * 5
    assert max(row.payload_size for row in rows(cluster)) < 10_000


def test_an_exception_comes_back_and_the_rest_is_cancelled(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    waiting = dask.delayed(work.wait_for)(never)
    further = [dask.delayed(operator.add)(waiting, str(place)) for place in range(8)]
    with pytest.raises(LookupError, match="on purpose") as raised:
        dask.compute(dask.delayed(work.fail)("on purpose"), *further, scheduler=ripieno.dask.get, cluster=cluster)
    assert "raise LookupError(text)" in str(raised.value.__cause__)
    until(lambda: cluster.session.counts() == {TaskStatus.CANCELLED: 9, TaskStatus.ERROR: 1})


def test_what_a_graph_lacks(cluster: ripieno.Cluster) -> None:
    with pytest.raises(ValueError, match="no key 'x'"):
        ripieno.dask.get({"y": (operator.add, 1, 2)}, "x", cluster=cluster)
    with pytest.raises(ValueError, match="no key 'x', which 'y' needs"):
        ripieno.dask.get({"y": Task("y", abs, TaskRef("x"))}, "y", cluster=cluster)


def test_a_graph_within_a_task_runs_in_its_slot(cluster: ripieno.Cluster) -> None:
    assert cluster.submit(computed_inside, 4).result(60) == 10


def computed_inside(number: int) -> int:
    total: int = dask.delayed(sum)([dask.delayed(abs)(each) for each in range(number + 1)]).compute(
        scheduler=ripieno.dask.get
    )
    return total


def test_an_executor_is_a_scheduler_too(cluster: ripieno.Cluster) -> None:
    with ripieno.Executor(cluster=cluster) as executor:
        assert dask.delayed(sum)([dask.delayed(abs)(-1), 2]).compute(scheduler=executor) == 3


@pytest.mark.parametrize(("module", "package"), [("ripieno.dask", "dask"), ("ripieno.joblib", "joblib")])
def test_what_is_missing_is_named(module: str, package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None\nimport {module}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"pip install 'ripieno[{package}]'" in ended.stderr
