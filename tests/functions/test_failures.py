"""Functions that raise: the caller gets the exception, and is told where it was raised."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

import ripieno
from functions import work
from functions.waiting import until
from ripieno.functions.terms.errors import RemoteTraceback
from ripieno.functions.terms.failures import add_note, decode_failure, encode_failure


class UnsendableError(Exception):
    def __init__(self, first: object, second: object) -> None:
        super().__init__(f"{first} and {second}")


def test_the_exception_itself_comes_back_with_the_remote_traceback(cluster: ripieno.Cluster) -> None:
    future = cluster.submit(work.fail, "no such thing")
    with pytest.raises(LookupError, match="no such thing") as caught:
        future.result(30)
    shown = "".join(traceback.format_exception(caught.value))
    assert "raise LookupError(text)" in shown and "src/ripieno" not in shown.partition('"""')[2].partition('"""')[0]
    assert f"task {future.task_id}, attempt 1 on worker " in shown and "work.py:" in shown
    assert "failed: LookupError" in repr(future)
    assert future.failure().detail.endswith("LookupError: no such thing")


def test_the_first_failure_of_a_graph_is_what_its_end_raises(cluster: ripieno.Cluster) -> None:
    first = cluster.submit(work.fail, "the root")
    last = cluster.submit(work.square, cluster.submit(work.square, first))
    with pytest.raises(LookupError, match="the root") as caught:
        last.result(30)
    notes = "\n".join(caught.value.__notes__)
    assert f"task {first.task_id}, attempt 1" in notes and f"task {last.task_id} did not run" in notes


def test_a_failure_of_a_sub_task_is_the_parents(cluster: ripieno.Cluster) -> None:
    def parent() -> Any:
        return ripieno.current().submit(work.fail, "below")

    with pytest.raises(LookupError, match="below"):
        cluster.submit(parent).result(30)


def test_an_exception_that_cannot_be_sent_is_told_in_words(cluster: ripieno.Cluster) -> None:
    def fails() -> None:
        raise UnsendableError(1, 2)

    def holds_a_lock() -> None:
        import threading

        error = ValueError("locked")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    for function, words in ((fails, "UnsendableError: 1 and 2"), (holds_a_lock, "ValueError: locked")):
        with pytest.raises(ripieno.RemoteError, match=words) as caught:
            cluster.submit(function).result(30)
        assert function.__name__ in str(caught.value.__cause__)


class ExitsWhenReadError(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (4,)


class ExitsWhenSentError(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(4)


class UnchangeableError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"{name} cannot be set")


def test_exceptions_that_defend_themselves() -> None:
    def returned(raised: Exception) -> BaseException:
        failure = decode_failure(encode_failure(raised)[0])
        assert failure is not None
        error = failure.raised()
        add_note(error, "noted")
        assert error.__notes__[-1] == "noted" and isinstance(error.__cause__, RemoteTraceback)
        return error

    for kind in (ExitsWhenReadError, ExitsWhenSentError):
        error = returned(kind("why"))
        assert isinstance(error, ripieno.RemoteError) and str(error).endswith(f"{kind.__name__}: why")
    assert isinstance(returned(UnchangeableError("why")), UnchangeableError)


def test_a_huge_exception_is_cut(cluster: ripieno.Cluster) -> None:
    def fails() -> None:
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ripieno.RemoteError, match="ValueError: xxx"):
        cluster.submit(fails).result(30)


def test_a_value_that_cannot_be_sent_fails_for_good(cluster: ripieno.Cluster) -> None:
    def makes_a_lock() -> object:
        import threading

        return threading.Lock()

    future = cluster.submit(makes_a_lock, max_retries=5)
    with pytest.raises(ripieno.TaskFailedError, match=r"the value that .*makes_a_lock returned cannot be sent"):
        future.result(30)
    assert future.failure().attempt == 0


def test_retries_and_the_classes_that_they_are_for(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    again = ripieno.Retry(times=5, on=(ConnectionError, TimeoutError))
    assert cluster.submit(work.fail_until, 3, str(tmp_path / "calls"), retry=again).result(30) == 3
    future = cluster.submit(work.fail, "not again", retry=again)
    with pytest.raises(LookupError, match="not again"):
        future.result(30)
    assert future.failure().attempt == 0
    with pytest.raises(TypeError, match="classes of exceptions"):
        cluster.submit(work.fail, "", retry=ripieno.Retry(on=("ValueError",)))  # type: ignore[arg-type]


def test_a_time_limit_is_no_exception_of_the_function(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    with pytest.raises(ripieno.TaskFailedError, match="TIMEOUT") as caught:
        cluster.submit(work.wait_for, str(tmp_path / "never"), max_duration=0.2).result(30)
    assert "attempt 1 on worker" in "".join(caught.value.__notes__)


def test_a_task_that_somebody_else_cancels(cluster: ripieno.Cluster, tmp_path: Path) -> None:
    future = cluster.submit(work.wait_for, str(tmp_path / "never"))
    cluster.flush()
    cluster.session.cancel_tasks(future.task_id)
    with pytest.raises(ripieno.TaskCancelledError):
        future.result(30)


def test_another_version_of_python_is_refused(cluster: ripieno.Cluster) -> None:
    from ripieno.functions.terms.envelope import Envelope

    payload = Envelope("strange", b"", b"", python="2.7").encode()
    task = cluster.session.submit(payload)
    with pytest.raises(ripieno.TaskFailedError, match=r"sent by Python 2\.7, and this worker runs Python 3\."):
        task.result(timeout=30)


def test_a_module_that_the_worker_lacks(
    cluster: ripieno.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def function(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    with pytest.raises(
        ripieno.TaskFailedError, match=r"no module .only_here., which only_here\.function needs: install"
    ):
        cluster.submit(only_here.function).result(30)


def test_what_an_attempt_printed(cluster: ripieno.Cluster) -> None:
    future = cluster.submit(print, "seen")
    future.result(30)
    until(lambda: future.logs().stdout == b"seen\n")


def test_futures_end_when_the_cluster_is_gone(tmp_path: Path) -> None:
    from ripieno.functions.calling.private import PrivateCluster

    private = PrivateCluster(1)
    with ripieno.connect(private.address, patience=1) as cluster:
        waiting = cluster.submit(work.wait_for, str(tmp_path / "never"))
        cluster.flush()
        private.close()
        assert isinstance(waiting.exception(60), ripieno.RipienoError)
        refused = cluster.submit(work.square, 1)
        assert isinstance(refused.exception(60), ripieno.RipienoError)
        begun = time.monotonic()
        done, _ = cluster.wait([waiting, refused], 1)
        assert len(done) == 2 and time.monotonic() - begun < 1
        with pytest.raises(ripieno.RipienoError):
            cluster.close()


class CodedError(Exception):
    """A class of a common shape, which pickle cannot rebuild."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def test_an_exception_that_cannot_be_rebuilt_says_why(cluster: ripieno.Cluster) -> None:
    def fails() -> None:
        raise CodedError(7, "no surface")

    with pytest.raises(ripieno.RemoteError, match="CodedError: no surface") as caught:
        cluster.submit(fails).result(30)
    assert "missing 1 required positional argument: 'text'" in "".join(caught.value.__notes__)
    assert "__reduce__" in "".join(caught.value.__notes__)


def test_what_earlier_tasks_printed_is_no_reason_of_a_later_one(cluster: ripieno.Cluster) -> None:
    cluster.gather([cluster.submit(print, f"of another task {number}") for number in range(4)])
    with pytest.raises(ripieno.TaskFailedError, match="exit code 3") as caught:
        cluster.submit(os._exit, 3).result(30)
    assert "of another task" not in str(caught.value)


def test_logs_of_a_task_that_was_submitted_just_now(cluster: ripieno.Cluster) -> None:
    assert cluster.submit(print, "soon").logs().attempt == 0
