"""How an executor ends: shut down, waited for or not, forgotten, or with its program."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ripieno
from functions import work
from functions.waiting import until
from ripieno.functions.calling.private import PrivateCluster

#: Leaves work behind in each way, and lets it run only once the interpreter has begun to end.
FORGETFUL = """
import atexit, sys, threading, time
from functions import work
@atexit.register
def last():
    try:
        executor.submit(id, None)
    except RuntimeError as error:
        print(error)
import ripieno
path, mark = sys.argv[1:]
executor = ripieno.Executor()
other = ripieno.Executor()
def let_go():
    try:
        while True:
            executor.submit(id, None)
            time.sleep(0.05)
    except RuntimeError:  # the main thread has ended
        open(mark, "w").close()
threading.Thread(target=let_go, daemon=True).start()
executor.submit(work.append_after, path, mark, "a")
other.submit(work.append_after, path, mark, "b")
other.shutdown(wait=False)
"""

PRIVATE = """
import ripieno
executor = ripieno.Executor(max_workers=1)
print(executor.cluster.private is not None, executor.max_workers, executor._max_workers)
print(list(executor.map(abs, range(-2, 1))))
executor.submit(print, "never seen here")
executor.shutdown(wait=False)
"""


@pytest.fixture
def executor(private: PrivateCluster) -> ripieno.Executor:
    return ripieno.Executor(private.address)


def test_shutting_down_waits(executor: ripieno.Executor) -> None:
    futures = [executor.submit(work.sleep, 0.05) for _ in range(10)]
    executor.shutdown()
    assert all(future.done() and future.exception() is None for future in futures)
    assert executor.cluster.is_closed
    for submit in (executor.submit, executor.map):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            submit(pow, [2], [5])
    executor.shutdown(cancel_futures=True)


def test_a_block_waits_and_keeps_values(private: PrivateCluster) -> None:
    with ripieno.Executor(private.address) as executor:
        values = executor.map(abs, range(-5, 5))
    assert list(values) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_a_cluster_that_was_given_stays_open(cluster: ripieno.Cluster) -> None:
    with ripieno.Executor(cluster=cluster) as executor:
        future = executor.submit(pow, 2, 2)
    assert future.result(0) == 4 and cluster.submit(pow, 2, 3).result(30) == 8


def test_without_waiting_it_ends_when_its_calls_have(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = [executor.submit(work.wait_for, str(mark)) for _ in range(4)]
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures) and not executor.cluster.is_closed
    mark.touch()
    assert [future.result(30) for future in futures] == [str(mark)] * 4
    until(lambda: executor.cluster.is_closed)


def test_shutting_down_cancels_what_does_not_run(executor: ripieno.Executor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = [executor.submit(work.wait_for, str(mark)) for _ in range(30)]
    until(futures[0].running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert not futures[0].done()
    assert sum(future.cancelled() for future in futures) > 20
    mark.touch()
    executor.shutdown()
    assert all(future.cancelled() or future.result(0) == str(mark) for future in futures)
    assert futures[0].result() == str(mark)


def test_shutting_down_just_after_a_cancellation(executor: ripieno.Executor) -> None:
    assert executor.submit(int).result(30) == 0
    executor.submit(int).cancel()
    executor.shutdown()


def test_an_executor_that_is_forgotten_ends_when_its_calls_have(private: PrivateCluster, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    executor = ripieno.Executor(private.address)
    cluster = executor.cluster
    future = executor.submit(work.wait_for, str(mark))
    values = executor.map(work.wait_for, [str(mark)])
    del executor
    gc.collect()
    assert not future.done() and not cluster.is_closed
    mark.touch()
    assert future.result(30) == str(mark) and list(values) == [str(mark)]
    until(lambda: cluster.is_closed)


def test_submitting_beside_shutting_down(executor: ripieno.Executor) -> None:
    """Each call either is refused, or has ended when ``shutdown`` returns."""
    futures = []
    begun = threading.Event()

    def submit_until_refused() -> None:
        while True:
            try:
                futures.append(executor.submit(work.square, 2))
            except RuntimeError:
                return
            begun.set()

    threads = [threading.Thread(target=submit_until_refused) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    executor.shutdown()
    for thread in threads:
        thread.join()
    assert futures and all(future.result(0) == 4 for future in futures)


def test_a_program_waits_for_what_it_submitted(private: PrivateCluster, tmp_path: Path) -> None:
    path, mark = tmp_path / "path", tmp_path / "mark"
    ended = _run(FORGETFUL, str(path), str(mark), RIPIENO_ADDRESS=private.address)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    assert ended.stdout == "cannot schedule new futures after interpreter shutdown\n"
    assert sorted(path.read_text()) == ["a", "b"]


def test_a_private_cluster_of_a_given_size() -> None:
    ended = _run(PRIVATE)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    assert ended.stdout.splitlines() == ["True 1 1", "[2, 1, 0]"]


def _run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    tests = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=90, env=os.environ | {"PYTHONPATH": tests} | environment,
    )  # fmt: skip
