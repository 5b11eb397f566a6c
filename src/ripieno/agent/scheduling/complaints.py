"""Warnings about workers, logged at once but repeated rarely."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass

#: Seconds after which the same complaint is logged again, with how often it came up.
REPEAT_S = 60.0
#: How many different complaints are remembered.
REMEMBERED = 100

_NUMBER = re.compile(r"\d+")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Said:
    at: float
    since: int = 0


class Complaints:
    """Logs complaints about the workers of all slots: sixty workers that fail for one reason give one warning.

    Complaints that differ in numbers only (process ids, line numbers, times) count as the same.
    """

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def say(self, worker: str, detail: str) -> None:
        """Log a warning about a worker, unless the same was logged for any worker within ``REPEAT_S``.

        A detail of several lines, such as a traceback that a worker printed, is logged as one line.
        """
        detail = " / ".join(detail.replace(":\n", ": ").splitlines())
        key, now = _NUMBER.sub("#", detail), time.monotonic()
        said = self._said.get(key)
        if said is not None and now - said.at < REPEAT_S:
            said.since += 1
            return
        again = f" ({said.since} times more in the last {now - said.at:.0f} s)" if said and said.since else ""
        _log.warning("worker %s: %s%s", worker, detail, again)
        self._said.pop(key, None)
        self._said[key] = _Said(now)
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
