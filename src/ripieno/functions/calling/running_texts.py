"""``RunningTexts``: what tasks that run say about themselves, for progress bars."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing

from ripieno.client import AsyncSession, RipienoError, Session
from ripieno.client.reading.progress import TaskProgress

#: Most lines; what was said longer ago is not shown, as its task may have ended.
LINES = 3
_FRESH_S = 5.0


class RunningTexts:
    """Listens to ``task.progress`` of a session's tasks, with one call for all of them, until it is closed.

    Args:
        session: The session; None to listen to nothing.
    """

    def __init__(self, session: Session | None) -> None:
        self._said: OrderedDict[str, tuple[float, TaskProgress]] = OrderedDict()
        self._listening = None if session is None else session.bridge.start(self._listen(session.target))

    def texts(self) -> Sequence[str]:
        """Return a few lines, the latest first."""
        now = time.monotonic()
        latest = [(at, each) for at, each in list(self._said.values())[-LINES:] if now - at < _FRESH_S]
        return [
            f"{each.text} ({each.fraction:.0%})" if each.text else f"{each.fraction:.0%}" for _, each in latest[::-1]
        ]

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self, session: AsyncSession) -> None:
        try:
            async with aclosing(session.follow_progress()) as reports:
                async for each in reports:
                    self._said.pop(each.task_id, None)
                    if each.fraction < 1:
                        self._said[each.task_id] = (time.monotonic(), each)
                    while len(self._said) > LINES:
                        self._said.popitem(last=False)
        except RipienoError:
            # A server that knows no progress, or none at all: the bar goes on without, and the wait tells what is wrong.
            return
