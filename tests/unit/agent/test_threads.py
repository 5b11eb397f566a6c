"""A machine that starts no more threads: what there is does the work."""

import threading
from typing import NoReturn

import pytest

from ripieno.agent.transport.threads import Threads


def no_more(_thread: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def wait_once(begun: threading.Event, go_on: threading.Event) -> bool:
    begun.set()
    return go_on.wait(10)


def test_work_waits_for_the_threads_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with Threads() as threads:
        begun, go_on = threading.Event(), threading.Event()
        first = threads.submit(wait_once, begun, go_on)
        assert begun.wait(10)
        monkeypatch.setattr(threading.Thread, "start", no_more)
        others = [threads.submit(pow, 2, number) for number in range(3)]
        go_on.set()
        assert [other.result(10) for other in others] == [1, 2, 4]
        assert first.result(10) is True


def test_without_any_thread_there_is_no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(OSError, match="no thread can be started"):
        Threads()
