"""A local cluster and a real one agree on all that a function can see."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ripieno
from functions import work
from ripieno.client import NotFoundError
from ripieno.functions.calling.private import PrivateCluster
from ripieno.testing import LocalCluster


class NotMineError(Exception):
    pass


@pytest.fixture(params=["local", "real"])
def either(request: pytest.FixtureRequest) -> Iterator[ripieno.Cluster]:
    if request.param == "local":
        with LocalCluster(max_retries=2) as local:
            yield local
    else:
        private: PrivateCluster = request.getfixturevalue("private")
        with ripieno.connect(private.address, max_retries=2) as real:
            yield real


def test_values(either: ripieno.Cluster) -> None:
    squares = either.map(work.square, range(10), chunk=4)
    assert either.gather(squares) == [number * number for number in range(10)]
    assert either.submit(sum, squares, start=1).result(30) == 286
    nested = either.submit(work.identity, {"a": [squares[1], (squares[9], None)]})
    assert nested.result(30) == {"a": [1, (81, None)]}
    assert either.submit(work.doubled, 4).result(30) == 8
    assert len(list(either.as_completed(squares, 30))) == 10 and not either.wait(squares).not_done
    large = bytes(50_000)
    assert either.submit(lambda: len(large)).result(30) == 50_000


def test_sub_tasks(either: ripieno.Cluster) -> None:
    assert either.submit(work.fibonacci, 6).result(60) == 8
    future = either.submit(work.several, 3)
    assert future.result(60) == {"alone": 9, "nested": [81], "plain": future.task_id}
    with pytest.raises(ripieno.FutureMisuseError, match="return the future"):
        either.submit(work.waits_inside).result(30)


def test_a_future_of_a_failed_attempt_is_refused_instead_of_waited_for() -> None:
    with (
        LocalCluster() as local,
        pytest.raises(ripieno.RipienoError, match="submitted by another task, or by an earlier"),
    ):
        local.submit(work.returns_what_a_failed_attempt_submitted, max_retries=1).result()


def test_sub_tasks_that_nothing_is_asked_of(either: ripieno.Cluster, tmp_path: Path) -> None:
    assert either.submit(work.aside, str(tmp_path / "aside")).result(30) == "ended"


def test_no_task_sees_what_another_has_changed(either: ripieno.Cluster) -> None:
    def grow(numbers: list[int]) -> int:
        numbers.append(0)
        return len(numbers)

    mine, stored = [1, 2], either.put([1, 2, 3])
    assert either.gather([either.submit(grow, mine) for _ in range(2)]) == [3, 3]
    assert either.gather([either.submit(grow, stored) for _ in range(2)]) == [4, 4]
    assert mine == [1, 2] and stored.result() == [1, 2, 3]


def test_failures(either: ripieno.Cluster) -> None:
    first = either.submit(work.fail, "the root")
    last = either.submit(work.square, either.submit(work.square, first))
    with pytest.raises(LookupError, match="the root") as caught:
        last.result(30)
    notes = "\n".join(caught.value.__notes__)
    assert f"task {first.task_id}, attempt 3" in notes and f"task {last.task_id} did not run" in notes
    assert "raise LookupError(text)" in str(caught.value.__cause__)
    assert first.failure().attempt == 2 and first.failure(0).detail.endswith("LookupError: the root")
    assert isinstance(either.gather([first], errors="return")[0], LookupError)


def test_retries(either: ripieno.Cluster, tmp_path: Path) -> None:
    assert either.submit(work.fail_until, 3, str(tmp_path / "a")).result(30) == 3
    with pytest.raises(ConnectionError):
        either.submit(work.fail_until, 3, str(tmp_path / "b"), max_retries=1).result(30)
    never = ripieno.Retry(times=5, on=LookupError)
    with pytest.raises(ConnectionError):
        either.submit(work.fail_until, 2, str(tmp_path / "c"), retry=never).result(30)
    assert (tmp_path / "c").stat().st_size == 1


def test_a_key_is_run_once(either: ripieno.Cluster, tmp_path: Path) -> None:
    futures = [either.submit(work.fail_until, 0, str(tmp_path / "a"), unique_key="k") for _ in range(3)]
    assert either.gather(futures) == [1, 1, 1]


def test_what_a_function_prints(either: ripieno.Cluster) -> None:
    future = either.submit(print, "said")
    assert future.result(30) is None
    assert b"said\n" in future.logs().stdout


def test_what_cannot_be_sent(either: ripieno.Cluster) -> None:
    with pytest.raises(ripieno.NotPicklableError, match="argument 1"):
        either.submit(work.identity, threading.Lock())
    with pytest.raises(ripieno.RipienoError, match=r"the value that .* returned cannot be sent"):
        either.submit(threading.Lock).result(30)
    with pytest.raises(ripieno.NotPicklableError, match="a Cluster cannot be sent"):
        either.submit(work.identity, either)
    with pytest.raises(TypeError, match="delay is a number of seconds"):
        either.submit(work.square, 1, delay="soon")


async def test_in_an_event_loop(either: ripieno.Cluster) -> None:
    async with either:
        assert await either.submit(work.doubled, 2) == 4
        assert await asyncio.gather(*either.map(work.square, range(3))) == [0, 1, 4]


def test_a_local_cluster_alone(tmp_path: Path) -> None:
    order: list[int] = []
    with LocalCluster() as cluster:
        cluster.map(lambda number: (tmp_path / str(number)).touch(), range(3))
        future = cluster.submit(work.square, 3)
        assert future.done() and not future.cancel() and not cluster.private
        future.add_done_callback(lambda each: order.append(each.result()))
        assert order == [9]
        with pytest.raises(AttributeError, match="use the fixture `cluster`"):
            cluster.client.list_tasks()
        with pytest.raises(AttributeError, match="use the fixture `cluster`"):
            cluster.session.retry([])
        with pytest.raises(NotFoundError):
            future.failure()
    with pytest.raises(RuntimeError, match="closed"):
        cluster.submit(work.square, 1)
    assert "closed" in repr(cluster)


def test_ctrl_c_fails_what_has_not_run() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with LocalCluster() as cluster:
        with pytest.raises(KeyboardInterrupt):
            cluster.map(lambda place: interrupted() if place == 1 else place, range(3))
        assert cluster.submit(work.square, 2).result() == 4


def test_a_task_has_no_cluster() -> None:
    with LocalCluster(max_retries=0) as cluster:
        _held.append(cluster)
        with pytest.raises(ripieno.FutureMisuseError, match=r"ripieno\.current\(\)\.submit"):
            cluster.submit(_submits).result()


_held: list[Any] = []


def _submits() -> Any:
    return _held.pop().submit(work.square, 2)
