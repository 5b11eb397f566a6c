"""``task.log``: a logger for each attempt that wants one, whose records are lines on standard error.

The loggers are known to nobody but their tasks: the module ``logging`` remembers loggers that it gives out by name
for ever, and handlers that are added to one are kept with it. All share one handler.
"""

import logging
import sys
import time
from functools import cache

#: Time in UTC with milliseconds, level, text.
_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s"
#: The same with the id of the attempt, where several run at a time.
_NAMING_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s [%(name)s] %(message)s"
_INDENT = "\n  "


def logger_of(name: str) -> logging.Logger:
    """Return a new logger for records from INFO on."""
    logger = _Logger(name, logging.INFO)
    logger.addHandler(_stderr())
    return logger


class _Logger(logging.Logger):
    """A logger that ``logging`` does not know of, so that nobody tells it when what it remembers is out of date."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return not self.disabled and self.manager.disable < level and level >= self.getEffectiveLevel()


class _Lines(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip("\n").replace("\n", _INDENT)


class _StandardError(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that time: a handler of tasks may replace it, and close it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n"
            if sys.stderr is not None:
                sys.stderr.write(line)
        except Exception:  # noqa: BLE001 - told as logging tells it
            self.handleError(record)


@cache
def _stderr() -> logging.Handler:
    handler = _StandardError()
    handler.setFormatter(_Lines(_FORMAT))
    return handler


def name_tasks_in_logs() -> None:
    """Have each line name its attempt from now on, since several run at a time."""
    _stderr().setFormatter(_Lines(_NAMING_FORMAT))
