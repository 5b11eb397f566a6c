"""Waits that notice signals, whichever thread the kernel gave them to."""

import signal
import threading
import time
from concurrent.futures import Future

import pytest

from ripieno import interruptible
from ripieno.interruptible import result_of


def test_what_a_future_ends_with() -> None:
    future: Future[int] = Future()
    future.set_result(7)
    assert result_of(future) == 7


@pytest.mark.parametrize("late", [False, True])
def test_an_error_of_the_kind_of_a_timeout_is_the_future_s_own(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruptible, "LOOK_UP_S", 0.01)
    future: Future[int] = Future()
    ending = threading.Timer(0.1 if late else 0, future.set_exception, [TimeoutError("theirs")])
    ending.start()
    with pytest.raises(TimeoutError, match="theirs"):
        result_of(future)
    ending.join()


def test_a_signal_that_another_thread_took_ends_the_wait() -> None:
    class HeardError(Exception):
        pass

    def on_signal(_number: int, _frame: object) -> None:
        raise HeardError

    def take_it() -> None:
        time.sleep(0.1)  # the main thread waits by then, most likely; if not, the test is easier
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        time.sleep(3 * interruptible.LOOK_UP_S)  # a thread that ends wakes nobody, but let it not even end

    former = signal.signal(signal.SIGUSR1, on_signal)
    taker = threading.Thread(target=take_it)
    try:
        taker.start()
        with pytest.raises(HeardError):
            result_of(Future())
    finally:
        signal.signal(signal.SIGUSR1, former)
        taker.join()
