"""The real joblib, and scikit-learn on it, with a cluster as their backend."""

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

import ripieno
import ripieno.joblib
from functions import work
from functions.waiting import until
from ripieno.client import TaskStatus
from ripieno.functions.adapters.large_values import size_of


@pytest.fixture(autouse=True)
def chosen(cluster: ripieno.Cluster) -> Iterator[None]:
    with joblib.parallel_config(backend="ripieno"):  # on the cluster in use
        yield


def rows(cluster: ripieno.Cluster) -> list[Any]:
    return list(cluster.client.list_tasks(f"session_id={cluster.session_id}"))


def test_calls_run_in_the_cluster_and_their_values_come_in_order(cluster: ripieno.Cluster) -> None:
    parallel = joblib.Parallel(n_jobs=-1)
    assert parallel(joblib.delayed(work.square)(number) for number in range(100)) == [n * n for n in range(100)]
    assert parallel(joblib.delayed(lambda x: x + 1)(number) for number in range(3)) == [1, 2, 3]
    assert 1 <= len(rows(cluster)) <= 103
    assert joblib.effective_n_jobs(-1) == 2 and joblib.effective_n_jobs(7) == 7


def test_batches_grow_while_calls_are_short(cluster: ripieno.Cluster) -> None:
    count = 400
    assert len(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in range(count))) == count
    assert len(rows(cluster)) < count / 2


def test_values_as_they_come(cluster: ripieno.Cluster) -> None:
    calls = [joblib.delayed(work.square)(number) for number in range(20)]
    assert list(joblib.Parallel(n_jobs=2, return_as="generator")(calls)) == [n * n for n in range(20)]
    unordered = joblib.Parallel(n_jobs=2, return_as="generator_unordered")(calls)
    assert sorted(unordered) == [n * n for n in range(20)]


def test_an_exception_is_raised_and_the_rest_is_cancelled(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    calls = [joblib.delayed(work.fail)("on purpose"), *[joblib.delayed(work.wait_for)(never)] * 5]
    with pytest.raises(LookupError, match="on purpose") as raised:
        joblib.Parallel(n_jobs=3, batch_size=1)(calls)
    assert "raise LookupError(text)" in str(raised.value.__cause__)
    until(lambda: not cluster.session.counts().keys() - {TaskStatus.CANCELLED, TaskStatus.ERROR})
    assert joblib.Parallel(n_jobs=2)([joblib.delayed(abs)(-1)] * 2) == [1, 1]


def test_a_time_limit(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    with pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(n_jobs=2, timeout=0.5)([joblib.delayed(work.wait_for)(never)] * 2)
    until(lambda: set(cluster.session.counts()) == {TaskStatus.CANCELLED})


def test_a_large_array_is_stored_once(cluster: ripieno.Cluster) -> None:
    array = np.arange(100_000)
    sums = joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(np.take)(array, place) for place in range(6))
    assert sums == list(range(6))
    assert max(row.payload_size for row in rows(cluster)) < 10_000
    stored = [row for row in cluster.client.list_results(f"session_id={cluster.session_id}") if row.name == "ndarray"]
    assert len(stored) == 1


def test_parallel_within_a_call_stays_in_its_slot() -> None:
    assert (
        joblib.Parallel(n_jobs=2)(joblib.delayed(nested)(number) for number in range(3))
        == [("SequentialBackend", "SequentialBackend", [0, 1, 2, 3])] * 3
    )


def nested(_: int) -> tuple[str, str, list[int]]:
    outer = type(joblib.parallel.get_active_backend()[0]).__name__
    with joblib.parallel_config(backend="ripieno"):
        named = type(joblib.parallel.get_active_backend()[0]).__name__
        return outer, named, joblib.Parallel(n_jobs=-1)(joblib.delayed(abs)(number) for number in range(4))


def test_a_cluster_or_an_address_may_be_given(cluster: ripieno.Cluster) -> None:
    with ripieno.connect(cluster.address) as other, joblib.parallel_config(backend="ripieno", cluster=cluster):
        assert joblib.Parallel(n_jobs=2)([joblib.delayed(abs)(-1)] * 2) == [1, 1]
        assert rows(cluster) and not rows(other)
    with joblib.parallel_config(backend="ripieno", address=cluster.address):
        assert joblib.Parallel(n_jobs=2)([joblib.delayed(abs)(-1)] * 2) == [1, 1]
    with pytest.raises(TypeError, match="not both"):
        joblib.parallel_config(backend="ripieno", address=cluster.address, cluster=cluster)


def test_grid_search_and_cross_validation_of_scikit_learn(cluster: ripieno.Cluster) -> None:
    X, y = make_classification(600, 60, random_state=1)  # noqa: N806 - as scikit-learn writes it
    model = LogisticRegression(max_iter=200)
    search = GridSearchCV(model, {"C": [0.01, 1.0]}, cv=3, n_jobs=-1).fit(X, y)
    scores = cross_val_score(model, X, y, cv=3, n_jobs=-1)
    assert len(rows(cluster)) >= 2
    with joblib.parallel_config(backend="sequential"):
        alone = GridSearchCV(model, {"C": [0.01, 1.0]}, cv=3).fit(X, y)
        assert search.best_params_ == alone.best_params_
        np.testing.assert_allclose(
            search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-6
        )
        np.testing.assert_allclose(scores, cross_val_score(model, X, y, cv=3), rtol=1e-6)


def test_the_size_of_values() -> None:
    class Table:
        def memory_usage(self) -> Any:
            return np.array([4, 5])

    class Sparse:
        data = np.zeros(10)

    assert [size_of(each) for each in (b"abc", "ab", np.zeros(2), Table(), Sparse(), 5, [b"abc"], time)] == [
        3, 2, 16, 9, 80, 0, 0, 0,
    ]  # fmt: skip
