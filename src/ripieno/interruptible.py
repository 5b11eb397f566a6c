"""Waiting for a future in an ordinary thread so that Ctrl-C and SIGTERM are noticed.

Python runs signal handlers in the main thread, between two of its steps. The kernel may hand a
signal to another thread, or to the main one just before it blocks; a wait without a time limit is then
not interrupted (measured on a busy machine: one Ctrl-C in 300 was not noticed).
"""

import time
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")

#: Longest delay until a signal is noticed, in seconds.
LOOK_UP_S = 0.5


def result_of(future: "Future[T]") -> T:
    """Wait for a future and return its result; an exception from a signal handler ends the wait.

    Raises:
        Exception: if the future ended with one.
    """
    while True:
        try:
            return future.result(LOOK_UP_S)
        except TimeoutError:
            if future.done():  # it ended with a TimeoutError of its own, or just now
                return future.result()


def is_done_within(future: "Future[Any]", timeout_s: float | None) -> bool:
    """Wait until a future is done, however it ended, and return whether it is.

    Args:
        future: The future.
        timeout_s: How long to wait at most, in seconds; None means without limit.
    """
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    while not future.done():
        left_s = LOOK_UP_S if give_up_at is None else min(LOOK_UP_S, give_up_at - time.monotonic())
        if left_s <= 0:
            return False
        wait((future,), left_s)
    return True
