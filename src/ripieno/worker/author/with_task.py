"""``with_task``: functions for the functions worker that are handlers themselves."""

from collections.abc import Callable
from typing import Any, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_MARK = "__ripieno_with_task__"


def with_task(function: FunctionT) -> FunctionT:
    """Mark a function that a payload of ``(function, args, kwargs)`` may name, as one that is called with the task first.

    What it returns is treated as what a handler returns: bytes are the task's result, as they are, or it has sent its
    results itself and returns None. So such a function can stream a result of any size, and learns that it is cancelled.
    """
    setattr(function, _MARK, True)
    return function


def is_with_task(function: object) -> bool:
    """Return whether a function was marked by ``with_task``."""
    return getattr(function, _MARK, False) is True
