"""``Executor`` keeps the rules of the standard library's executors.

The list of rules is what CPython tests of its own executors (Lib/test/test_concurrent_futures); each that applies
has a test in our words, here or in ``test_executor_ends``. What does not apply:

=========================================================  =============================================================
case of CPython                                            why not
=========================================================  =============================================================
threads and processes: default_workers, saturation,        the cluster's agents start workers, and keep them
idle reuse, names, they terminate, wakeup fails
max_tasks_per_child                                        workers live on; an agent has settings for that
max_workers_too_large (61 on Windows)                      a limit of Windows' handles
mp_context, spawn and forkserver, ressources_gced          there is no multiprocessing context
killed_child breaks the pool                               the call is given another worker, as a test here shows
test_deadlock: crash while pickling                        what cannot be pickled is refused by submit itself; values
                                                           that cannot be read are tested here
hang_global_shutdown_lock, pending_calls_race,             locks of ThreadPoolExecutor
shutdown_race_issue12456
future: repr, set twice, invalid states, notify_cancel     inherited from concurrent.futures.Future unchanged, except
                                                           repr, which is tested with ``Cluster.submit``
free_reference of ``as_completed`` with cancelled futures  inherited: as_completed is the standard library's
=========================================================  =============================================================
"""

import asyncio
import concurrent.futures
import gc
import io
import itertools
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

import ripieno
from functions import work
from functions.waiting import until
from ripieno.client import TaskStatus
from ripieno.functions.calling.private import PrivateCluster
from ripieno.functions.terms.errors import RemoteTraceback


@pytest.fixture
def executor(cluster: ripieno.Cluster) -> Iterator[ripieno.Executor]:
    with ripieno.Executor(cluster=cluster) as executor:
        yield executor


class Thing:
    """Something that can be referred to weakly, and has a method."""

    def method(self) -> int:
        return 5


def thing(_: object) -> Thing:
    return Thing()


def test_it_is_an_executor(executor: ripieno.Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(30) == 256
    assert future.done() and not future.running() and not future.cancel() and not future.cancelled()


def test_keyword_arguments_are_the_functions_whatever_they_are_called(executor: ripieno.Executor) -> None:
    given = {"self": 2, "fn": 3, "priority": 4, "after": 5, "unique_key": "six", "delay": 7}
    assert executor.submit(work.capture, 1, **given).result(30) == ((1,), given)
    anything: Any = executor.submit
    with pytest.raises(TypeError):
        anything(fn=work.capture, arg=1)
    with pytest.raises(TypeError, match="takes a function"):
        anything(5)


def test_map_yields_values_in_order(executor: ripieno.Executor) -> None:
    expected = [number**2 for number in range(10)]
    assert list(executor.map(pow, range(10), [2] * 10)) == expected
    assert list(executor.map(pow, range(10), itertools.repeat(2))) == expected
    assert list(executor.map(pow, range(10), [2] * 10, chunksize=3)) == expected
    assert list(executor.map(pow, range(10), [2] * 10, chunksize=100)) == expected
    assert list(executor.map(pow, range(10), [2] * 10, chunksize="auto")) == expected
    assert list(executor.map(pow, [], [])) == []
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(pow, [1], [1], chunksize=0)


def test_map_submits_and_reads_before_it_is_iterated(executor: ripieno.Executor, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    left = iter(paths)
    values = executor.map(Path.touch, left)
    assert next(left, None) is None
    until(lambda: all(path.exists() for path in paths))
    assert list(values) == [None] * 3


def test_map_raises_where_the_function_did(executor: ripieno.Executor) -> None:
    values = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(values) == (0, 1)
    assert next(values) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_map_has_a_time_limit_for_all_values_together(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    values = executor.map(work.wait_for_if, [None, str(mark)], timeout=2)
    try:
        assert next(values) is None
        with pytest.raises(TimeoutError):
            next(values)
    finally:
        mark.touch()


def test_what_is_left_of_an_abandoned_map_is_cancelled_unless_it_runs(
    executor: ripieno.Executor, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    values = executor.map(work.wait_for_if, [None, *[str(mark)] * 20])
    assert next(values) is None
    session = executor.cluster.session
    until(lambda: session.counts().get(TaskStatus.PROCESSING, 0) > 0)
    del values
    until(lambda: session.counts().get(TaskStatus.CANCELLED, 0) > 10)
    mark.touch()
    session.wait(timeout=30)
    assert session.counts()[TaskStatus.COMPLETED] >= 2


def test_a_running_call_is_not_cancelled(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = [executor.submit(work.wait_for, str(mark)) for _ in range(8)]
    until(futures[0].running)
    assert not futures[0].cancel() and not futures[0].cancelled()
    assert futures[-1].cancel() and futures[-1].cancelled() and futures[-1].cancel()
    assert not futures[-1].running()
    mark.touch()
    assert futures[0].result(30) == str(mark)
    with pytest.raises(concurrent.futures.CancelledError):
        futures[-1].result(30)
    with pytest.raises(concurrent.futures.CancelledError):
        futures[-1].exception(30)


def test_exceptions_come_back_with_the_remote_traceback_as_their_cause(executor: ripieno.Executor) -> None:
    future = executor.submit(work.fail, "on purpose")
    error = future.exception(30)
    assert type(error) is LookupError and error.args == ("on purpose",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise LookupError(text)" in str(error.__cause__)
    with pytest.raises(LookupError, match="on purpose"):
        future.result()


def test_a_function_that_raised_is_not_called_again(private: PrivateCluster, tmp_path: Path) -> None:
    counter = tmp_path / "calls"
    with ripieno.connect(private.address, max_retries=3) as cluster, ripieno.Executor(cluster=cluster) as executor:
        with pytest.raises(ConnectionError):
            executor.submit(work.fail_until, 2, str(counter)).result(30)
        assert counter.read_bytes() == b"."
        # Options that the function was decorated with go before.
        again = ripieno.task(max_retries=3)(work.fail_until)
        assert executor.submit(again, 3, str(counter)).result(30) == 3


def test_results_have_time_limits(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    future = executor.submit(work.wait_for, str(mark))
    for wait in (future.result, future.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(0.01)
    mark.touch()
    assert future.exception(30) is None


def test_callbacks_are_called_in_order_whatever_one_raises(
    executor: ripieno.Executor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mark = tmp_path / "mark"
    seen: list[Any] = []
    done = threading.Event()

    def fails(_: object) -> None:
        seen.append("fails")
        raise ValueError("of a callback")

    future = executor.submit(work.wait_for, str(mark))
    future.add_done_callback(lambda future: seen.append(future.result()))
    future.add_done_callback(fails)
    future.add_done_callback(lambda _: seen.append("last"))
    future.add_done_callback(lambda _: done.set())
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        mark.touch()
        assert done.wait(30)
    assert seen == [str(mark), "fails", "last"]
    assert "of a callback" in caplog.text
    future.add_done_callback(lambda _: seen.append("at once"))
    assert seen[-1] == "at once"


def test_callbacks_hear_of_failures_and_cancellations(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    seen: list[str] = []
    both = threading.Barrier(2)

    def callback(future: concurrent.futures.Future[Any]) -> None:
        seen.append("cancelled" if future.cancelled() else repr(future.exception()))
        both.wait(30)

    executor.submit(work.fail, "heard").add_done_callback(callback)
    both.wait(30)
    held = [executor.submit(work.wait_for, str(mark)) for _ in range(8)]
    waiter = threading.Thread(target=both.wait, args=(30,))
    waiter.start()
    held[-1].add_done_callback(callback)
    assert held[-1].cancel()
    waiter.join()
    mark.touch()
    assert seen == ["LookupError('heard')", "cancelled"]


def test_a_value_that_cannot_be_read_here_is_the_futures_exception(executor: ripieno.Executor) -> None:
    future = executor.submit(work.unreadable)
    assert isinstance(future.exception(30), ripieno.FutureMisuseError)
    assert executor.submit(pow, 2, 2).result(30) == 4


def test_what_cannot_be_sent_is_refused_at_once(executor: ripieno.Executor) -> None:
    with pytest.raises(ripieno.NotPicklableError, match="argument 1"):
        executor.submit(id, threading.Lock())


def test_objects_are_not_kept_alive(executor: ripieno.Executor) -> None:
    sent = Thing()
    gone = threading.Event()
    watched = weakref.ref(sent, lambda _: gone.set())
    executor.submit(sent.method)
    del sent
    assert gone.wait(10) and watched() is None
    for value in executor.map(thing, range(10)):
        watch = weakref.ref(value)
        del value
        until(lambda watch=watch: gc.collect() >= 0 and watch() is None)  # type: ignore[misc]


def test_waiting_for_futures_of_threads_and_of_the_cluster_together(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with ThreadPoolExecutor(1) as threads:
        quick: concurrent.futures.Future[Any] = threads.submit(pow, 2, 3)
        slow: concurrent.futures.Future[Any] = executor.submit(work.wait_for, str(mark))
        done, left = concurrent.futures.wait([quick, slow], return_when=concurrent.futures.FIRST_COMPLETED)
        assert done == {quick} and left == {slow}
        assert concurrent.futures.wait([slow], timeout=0.01) == (set(), {slow})
        failing: concurrent.futures.Future[Any] = executor.submit(work.fail, "first")
        done, left = concurrent.futures.wait([slow, failing], return_when=concurrent.futures.FIRST_EXCEPTION)
        assert done == {failing} and left == {slow}
        with pytest.raises(TimeoutError, match=r"1 \(of 3\) futures unfinished"):
            list(concurrent.futures.as_completed([quick, slow, failing], timeout=0.01))
        mark.touch()
        assert set(concurrent.futures.as_completed([quick, slow, failing, slow], 30)) == {quick, slow, failing}


def test_futures_are_data_dependencies_as_for_a_cluster(executor: ripieno.Executor) -> None:
    assert executor.submit(sum, [executor.submit(pow, 2, 2), executor.submit(pow, 2, 3)]).result(30) == 12


def test_from_many_threads(executor: ripieno.Executor) -> None:
    with ThreadPoolExecutor(8) as threads:
        sums = threads.map(lambda start: sum(executor.map(work.square, range(start, start + 20))), range(8))
    assert list(sums) == [sum(number**2 for number in range(start, start + 20)) for start in range(8)]


async def test_event_loops_run_calls_in_it(executor: ripieno.Executor) -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.gather(*(loop.run_in_executor(executor, work.square, number) for number in range(5))) == [
        0, 1, 4, 9, 16,
    ]  # fmt: skip
    with pytest.raises(LookupError, match="awaited"):
        await loop.run_in_executor(executor, work.fail, "awaited")
    assert await executor.submit(work.square, 3) == 9


async def test_a_large_value_is_here_before_its_future_is_done(executor: ripieno.Executor) -> None:
    future: concurrent.futures.Future[bytes] = executor.submit(bytes, 3_000_000)
    assert isinstance(future, ripieno.Future)
    assert len(await asyncio.wrap_future(future)) == 3_000_000
    await asyncio.to_thread(executor.cluster.session.delete_data, [future.key])
    assert len(future.result()) == 3_000_000


async def test_cancelling_in_an_event_loop_does_not_wait(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    loop = asyncio.get_running_loop()
    waiting = [loop.run_in_executor(executor, work.wait_for, str(mark)) for _ in range(10)]
    session = executor.cluster.session
    await asyncio.to_thread(until, lambda: session.counts().get(TaskStatus.PROCESSING, 0) > 0)
    for future in waiting:
        future.cancel()
    await asyncio.to_thread(until, lambda: session.counts().get(TaskStatus.CANCELLED, 0) >= 5)
    mark.touch()
    await asyncio.to_thread(session.wait, timeout=30)
    counts = await asyncio.to_thread(session.counts)
    assert counts[TaskStatus.COMPLETED] >= 1 and sum(counts.values()) == 10


def test_progress_bars_of_tqdm(executor: ripieno.Executor) -> None:
    shown = io.StringIO()
    values = list(tqdm(executor.map(work.square, range(20)), total=20, file=shown, mininterval=0))
    assert values == [number**2 for number in range(20)]
    assert "20/20" in shown.getvalue()


def test_an_initializer_is_called_once_in_each_worker(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    with ripieno.Executor(cluster=cluster, initializer=work.note, initargs=(str(calls), "x")) as executor:
        seen = set(executor.map(work.noted, range(50)))
        assert executor.submit(work.capture, 1, two=2).result(30) == ((1,), {"two": 2})
    assert seen == {"x"}
    assert 1 <= len(calls.read_text()) <= 2


def test_an_initializer_that_raises_breaks_the_executor(cluster: ripieno.Cluster) -> None:
    with ripieno.Executor(cluster=cluster, initializer=work.fail, initargs=("at the start",)) as executor:
        future = executor.submit(pow, 2, 2)
        with pytest.raises(concurrent.futures.BrokenExecutor, match="at the start"):
            future.result(30)
        until(lambda: _is_broken(executor))
        with pytest.raises(concurrent.futures.BrokenExecutor, match="at the start"):
            executor.map(pow, [2], [2])
    anything: Any = 5
    with pytest.raises(TypeError, match="initializer"):
        ripieno.Executor(cluster=cluster, initializer=anything)


def _is_broken(executor: ripieno.Executor) -> bool:
    try:
        executor.submit(pow, 1, 1)
    except concurrent.futures.BrokenExecutor:
        return True
    return False


def test_its_size(cluster: ripieno.Cluster, executor: ripieno.Executor) -> None:
    assert executor.max_workers == 2 == cluster.slots()
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            ripieno.Executor(max_workers=number)
    with pytest.raises(TypeError, match="give one of"):
        ripieno.Executor(cluster=cluster, max_workers=2)


def test_it_runs_on_the_cluster_in_use(cluster: ripieno.Cluster) -> None:
    with ripieno.connect(cluster.address) as inner, ripieno.Executor() as executor:
        assert executor.cluster is inner
        assert executor.submit(pow, 2, 2).result(30) == 4
    assert inner.is_closed
    with ripieno.Executor() as executor:
        assert executor.cluster is cluster and repr(cluster) in repr(executor)


def test_calls_run_beside_each_other(executor: ripieno.Executor, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert list(executor.map(work.meet, [one, two], [two, one])) == [two, one]


def test_a_call_whose_worker_died_is_given_another_one(private: PrivateCluster, tmp_path: Path) -> None:
    with ripieno.connect(private.address, max_retries=3) as cluster, ripieno.Executor(cluster=cluster) as executor:
        assert executor.submit(work.kill_once, str(tmp_path / "killed")).result(60) == "alive"
