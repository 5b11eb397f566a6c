"""Waiting in an ordinary thread so that Ctrl-C and SIGTERM are noticed.

Python runs signal handlers in the main thread, between two steps of it. The kernel may hand a
signal to another thread, or to the main one just before it blocks; nothing wakes the main thread
from a wait without a limit then (measured on a busy machine: one Ctrl-C in 300 was not noticed).
"""

from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

#: How late a signal may be noticed.
LOOK_UP_S = 0.5


def result_of(future: "Future[T]") -> T:
    """Wait for a future; what a signal handler raises meanwhile ends the wait.

    Raises:
        Exception: whatever the future ended with.
    """
    while True:
        try:
            return future.result(LOOK_UP_S)
        except TimeoutError:
            if future.done():  # with an error of this kind, or just now
                return future.result()
