"""Functions that make tasks: their futures are returned, never waited for."""

from pathlib import Path

import pytest

import ripieno
from functions import work
from functions.waiting import until


def test_a_future_that_is_returned_stands_for_its_value(cluster: ripieno.Cluster) -> None:
    assert cluster.submit(work.fibonacci, 8).result(60) == 21


def test_futures_inside_what_is_returned(cluster: ripieno.Cluster) -> None:
    future = cluster.submit(work.several, 3)
    assert future.result(60) == {"alone": 9, "nested": [81], "plain": future.task_id}


def test_a_sub_task_that_nothing_is_asked_of(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    path = tmp_path / "aside"
    assert cluster.submit(work.aside, str(path)).result(30) == "ended"
    until(lambda: path.exists() and path.read_text() == "written")


def test_a_returned_value_is_the_argument_of_a_further_task(cluster: ripieno.Cluster) -> None:
    assert cluster.submit(work.square, cluster.submit(work.fibonacci, 5)).result(60) == 25


def test_a_task_cannot_wait_for_its_sub_task(cluster: ripieno.Cluster) -> None:
    with pytest.raises(Exception, match="return the future"):
        cluster.submit(work.waits_inside).result(30)


def test_there_is_no_task_outside() -> None:
    with pytest.raises(ripieno.FutureMisuseError, match="not run by a worker"):
        ripieno.current()


def test_options_of_sub_tasks(cluster: ripieno.Cluster) -> None:
    def parent() -> object:
        return ripieno.current().submit(work.square, 3, priority=8)

    assert cluster.submit(parent).result(30) == 9
    priorities = {task.options.priority for task in cluster.client.list_tasks(f"session_id={cluster.session_id}")}
    assert priorities == {1, 8}


def test_what_a_function_knows_of_its_task(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    def asks(mark: str) -> tuple[str, str, int, bool, bool]:
        task = ripieno.current()
        task.log.info("asked")
        task.progress(0.5, "half way")
        with Path(mark).open("ab") as file:
            file.write(b".")
        if Path(mark).stat().st_size == 1:
            raise ConnectionError("once more")
        return task.session_id, task.task_id, task.attempt, task.cancelled, task.wait_cancelled(0.01)

    future = cluster.submit(asks, str(tmp_path / "mark"), max_retries=1)
    assert future.result(30) == (cluster.session_id, future.task_id, 1, False, False)
    until(lambda: b"asked" in future.logs().stderr)
