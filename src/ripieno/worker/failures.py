"""What is told of a handler's exception."""

import traceback
from pathlib import Path
from types import TracebackType

#: Of a traceback this much is told: its start and its end.
FAILURE_LIMIT_CHARACTERS = 8 * 1024

_PACKAGE = str(Path(__file__).parent)
_MARK = "\n[...]\n"


def describe(error: BaseException) -> str:
    """The traceback of a handler's exception, without this package's frames above the handler."""
    shown: TracebackType | None = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        shown = shown.tb_next
    lines = traceback.format_exception(type(error), error, shown)
    return shorten("".join(lines).rstrip("\n"), FAILURE_LIMIT_CHARACTERS)


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a text that is longer than ``limit`` characters; most of what stays is its end."""
    if len(text) <= limit:
        return text
    if limit <= 4 * len(_MARK):
        return text[:limit]
    head = limit // 4
    tail = limit - head - len(_MARK)
    return text[:head] + _MARK + text[-tail:]
