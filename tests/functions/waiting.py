"""Waiting for conditions that nothing tells of."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    ends_at = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not come true"
        time.sleep(0.01)
