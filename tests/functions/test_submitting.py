"""Submitting functions: values, futures as arguments, options, and what cannot be sent."""

import asyncio
import concurrent.futures
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

import ripieno
from functions import work
from ripieno.client import InvalidRequestError, TaskOptions, TaskStatus


def test_a_function_is_called_with_its_arguments(cluster: ripieno.Cluster) -> None:
    future = cluster.submit(pow, 7, 2, mod=10)
    assert future.result(30) == 9
    assert future.done() and "finished" in repr(future) and "pow" in repr(future)


def test_code_of_the_program_itself_goes_along(cluster: ripieno.Cluster) -> None:
    offset = 5
    assert cluster.submit(lambda x: x + offset, 1).result(30) == 6


def test_a_coroutine_function_is_awaited(cluster: ripieno.Cluster) -> None:
    assert cluster.submit(work.doubled, 4).result(30) == 8


def test_futures_stand_for_their_values_at_any_depth(cluster: ripieno.Cluster) -> None:
    one = cluster.submit(work.square, 2)
    two = cluster.submit(work.square, one)
    nested = cluster.submit(work.identity, {"a": [one, (two, 3)], "b": {"c": two}})
    assert nested.result(30) == {"a": [4, (16, 3)], "b": {"c": 16}}
    closed_over: Any = one
    assert cluster.submit(lambda: closed_over).result(30) == 4


def test_values_do_not_pass_through_the_caller(cluster: ripieno.Cluster) -> None:
    large = cluster.submit(bytes, 5_000_000)
    assert cluster.submit(len, large).result(30) == 5_000_000
    assert len(large.result(30)) == 5_000_000


def test_what_is_put_is_fetched_once_and_copied_for_each_task(cluster: ripieno.Cluster) -> None:
    stored = cluster.put([1, 2, 3], name="numbers")

    def grow(numbers: list[int]) -> int:
        numbers.append(0)
        return len(numbers)

    assert cluster.gather(cluster.map(grow, [stored] * 10)) == [4] * 10
    assert stored.result() == [1, 2, 3] and "numbers" in repr(stored)


def test_large_code_is_stored_once(cluster: ripieno.Cluster) -> None:
    table = bytes(50_000)
    futures = cluster.map(lambda place: len(table) + place, range(20), chunk=1)
    assert cluster.gather(futures) == [50_000 + place for place in range(20)]
    payloads = [task.payload_size for task in cluster.client.list_tasks(f"session_id={cluster.session_id}")]
    assert len(payloads) == 20
    assert max(payloads) < 1_000


def test_map_takes_items_of_several_iterables_together(cluster: ripieno.Cluster) -> None:
    assert cluster.gather(cluster.map(pow, range(5), [2] * 9)) == [0, 1, 4, 9, 16]
    assert cluster.map(pow, [], []) == []


def test_calls_that_share_a_task(cluster: ripieno.Cluster) -> None:
    futures = cluster.map(work.square, range(10), chunk=4)
    assert cluster.gather(futures) == [number * number for number in range(10)]
    assert len({future.task_id for future in futures}) == 3
    assert cluster.submit(sum, [futures[1], futures[9]]).result(30) == 82


def test_gather_keeps_the_shape(cluster: ripieno.Cluster) -> None:
    one, two = cluster.map(work.square, [1, 2])
    assert cluster.gather({"a": [one, 7], "b": (two, {one})}) == {"a": [1, 7], "b": (4, {1})}
    assert cluster.gather(iter([one, two])) == [1, 4]
    failed = cluster.submit(work.fail, "no")
    with pytest.raises(Exception, match="no"):
        cluster.gather([one, failed])
    assert isinstance(cluster.gather([one, failed], errors="return")[1], Exception)


def test_the_standard_library_waits_for_futures(cluster: ripieno.Cluster) -> None:
    futures = cluster.map(work.square, range(20), chunk=1)
    assert sorted(future.result() for future in concurrent.futures.as_completed(futures, 30)) == sorted(
        number * number for number in range(20)
    )
    assert cluster.wait(futures).not_done == set()


async def test_futures_are_awaited_in_any_loop(cluster: ripieno.Cluster) -> None:
    futures = cluster.map(work.square, range(5), chunk=1)
    assert await asyncio.gather(*futures) == [0, 1, 4, 9, 16]
    assert await asyncio.wrap_future(cluster.submit(work.square, 3)) == 9
    assert len(await cluster.submit(bytes, 1_000_000)) == 1_000_000
    with pytest.raises(Exception, match="why"):
        await cluster.submit(work.fail, "why")


def test_callbacks_run_beside_the_client(cluster: ripieno.Cluster) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def callback(future: concurrent.futures.Future[bytes]) -> None:
        seen.append(len(future.result()))  # fetched here, as it is large
        seen.append(threading.current_thread().name)
        done.set()

    cluster.submit(bytes, 1_000_000).add_done_callback(callback)
    assert done.wait(30) and seen == [1_000_000, "ripieno-results"]


def test_callbacks_that_exit_or_wait_keep_no_future_from_its_value(
    cluster: ripieno.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncaught: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: uncaught.append(args.exc_type))
    go, told = tmp_path / "go", threading.Event()
    first = cluster.submit(work.wait_for, str(go))
    second = cluster.submit(work.identity, first)
    other = cluster.submit(work.square, 3)
    refused: list[BaseException | None] = []

    def exits(_: object) -> None:
        raise SystemExit(3)

    def waits(_: object) -> None:
        never = ripieno.Future[int](cluster, "never", "never")
        for wait in (never.result, lambda: cluster.gather([never]), lambda: cluster.wait([never])):
            with pytest.raises(ripieno.FutureMisuseError, match="a callback cannot wait") as caught:
                wait()
            refused.append(caught.value)
        told.set()

    first.add_done_callback(exits)
    second.add_done_callback(waits)
    # A callback of a cancelled future runs in the thread that cancels, and may wait there.
    cancelled = cluster.submit(work.wait_for, str(tmp_path / "never"))
    cancelled.add_done_callback(lambda _: refused.append(None if other.result(30) == 9 else AssertionError()))
    assert cancelled.cancel() and refused == [None]
    go.touch()
    assert told.wait(30) and len(refused) == 4 and uncaught == [SystemExit]
    cluster.gather([first, second], progress=False)


def test_a_future_ends_once(cluster: ripieno.Cluster) -> None:
    seen: list[bool] = []
    future = ripieno.Future[int](cluster, "key", "f")
    future.add_done_callback(lambda _: seen.append(future.cancel_here()))
    future.complete(5)
    future.fail(ValueError())
    assert future.result() == 5 and seen == [False]


def test_options_of_a_task(cluster: ripieno.Cluster) -> None:
    @ripieno.task(priority=7, max_duration=60, options={"color": "red"})
    def function(number: int) -> int:
        return number + 1

    assert function(1) == 2
    futures = [cluster.submit(function, 1), cluster.submit(function.options(priority=9), 1, max_retries=5)]
    assert cluster.gather(futures) == [2, 2]
    rows = {task.id: task for task in cluster.client.list_tasks(f"session_id={cluster.session_id}")}
    first, second = (rows[future.task_id] for future in futures)
    assert first.options == TaskOptions(7, 0, 60, None, {"color": "red"})
    assert second.options == TaskOptions(9, 5, 60, None, {"color": "red"})


def test_after_orders_tasks_whose_values_are_not_used(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    first = cluster.submit(work.wait_for, str(mark))
    second = cluster.submit(mark.exists, after=[first])
    mark.touch()
    assert second.result(30) is True


def test_a_unique_key_is_run_once(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    counter = str(tmp_path / "calls")
    futures = [cluster.submit(work.fail_until, 0, counter, unique_key="only") for _ in range(3)]
    assert cluster.gather(futures) == [1, 1, 1]
    assert cluster.submit(work.fail_until, 5, counter, unique_key="only").result(30) == 1


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        ((work.square, threading.Lock()), {}, "argument 1 of functions.work.square cannot be sent"),
        ((work.square,), {"number": threading.Lock()}, "argument number of functions.work.square cannot be sent"),
        ((5,), {}, "takes a function"),
        ((work.square, 1), {"after": [1]}, "after takes futures"),
        ((work.square, 1), {"after": 5}, "after takes a future or several, not 5"),
        ((work.square, 1), {"unique_key": ""}, "unique_key"),
        ((work.square, 1), {"delay": "soon"}, "delay is a number of seconds"),
        ((work.square, 1), {"retry": ripieno.Retry(), "max_retries": 1}, "not both"),
        ((lambda priority: priority,), {"priority": 1}, "priority is an option of the task and a parameter"),
    ],
)
def test_what_cannot_be_submitted(
    cluster: ripieno.Cluster, arguments: tuple[Any, ...], keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        cluster.submit(*arguments, **keywords)


def test_an_option_out_of_range_is_refused_at_once(cluster: ripieno.Cluster) -> None:
    with pytest.raises(InvalidRequestError, match="priority"):
        cluster.submit(work.square, 1, priority=100)
    with pytest.raises(TypeError, match="no option colour"):
        ripieno.task(colour=1)
    with pytest.raises(InvalidRequestError, match=r"unique_key: .* lone surrogate"):
        cluster.submit(work.square, 1, unique_key="\ud800")
    with pytest.raises(TypeError, match="at least one iterable"):
        cluster.map(work.square)
    with pytest.raises(TypeError, match="address is a text"):
        ripieno.connect(5450)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunk is a number of calls"):
        cluster.map(work.square, [1], chunk=0)


def test_futures_of_another_session_and_pickles_elsewhere_are_refused(cluster: ripieno.Cluster) -> None:
    future = cluster.submit(work.square, 1)
    with ripieno.connect(cluster.address) as other, pytest.raises(TypeError, match="another session"):
        other.submit(work.square, future)
    with pytest.raises(ripieno.FutureMisuseError, match="argument of a function"):
        pickle.dumps(future)
    with pytest.raises(TypeError, match=r"ripieno.current\(\)"):
        cluster.submit(lambda: cluster.submit(work.square, 1))


def test_cancelling(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    futures = [cluster.submit(work.wait_for, never) for _ in range(4)]
    assert futures[0].cancel() and not futures[0].cancel()
    cluster.cancel(futures)
    assert all(future.cancelled() for future in futures)
    with pytest.raises(concurrent.futures.CancelledError):
        cluster.gather(futures)
    for future in futures:
        cluster.session.wait(future.key, timeout=30)
    statuses = cluster.session.status([future.task_id for future in futures])
    assert set(statuses.values()) == {TaskStatus.CANCELLED}
    assert cluster.submit(work.square, 2).result(30) == 4
