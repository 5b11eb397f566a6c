"""Waiting for conditions with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

#: Long enough for a busy machine; a condition that holds is seen within milliseconds.
PATIENCE_S = 30.0
_POLL_S = 0.01

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], what: str, *, within_s: float = ..., every_s: float = ...
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T | None], what: str, *, within_s: float = ..., every_s: float = ...
) -> T: ...


async def eventually(
    condition: Callable[[], Awaitable[T | None]] | Callable[[], T | None],
    what: str,
    *,
    within_s: float = PATIENCE_S,
    every_s: float = _POLL_S,
) -> T:
    """Return the first true value of ``condition``, which may be a coroutine function.

    Raises:
        AssertionError: it stayed false; the text says ``what`` was waited for and what was seen last.
    """
    deadline = time.monotonic() + within_s
    while True:
        outcome = condition()
        value = await outcome if isinstance(outcome, Awaitable) else outcome
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {value!r}")
        await asyncio.sleep(every_s)
