"""Descriptions of a handler's exception, for the agent."""

import traceback
from pathlib import Path
from types import TracebackType

from ripieno.domain.outcomes import FAILURE_VALUE_LIMIT_BYTES
from ripieno.domain.texts import REASON_LIMIT_BYTES, reason
from ripieno.worker.terms.errors import FAILURE_VALUE_ATTRIBUTE

_PACKAGE = str(Path(__file__).parents[2])


def describe(error: BaseException) -> str:
    """Return the traceback of a handler's exception, without this package's frames above the handler.

    This never raises, whatever the exception is like (its text may be endless, no text at all, or an
    error itself). The description is at most ``REASON_LIMIT_BYTES`` of valid UTF-8.
    """
    shown: TracebackType | None = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        shown = shown.tb_next
    try:
        lines = traceback.format_exception(type(error), error, shown)
    except BaseException as strange:  # noqa: BLE001 - notes, causes and code of any kind may run in it
        lines = [f"{_name(error)} (its traceback cannot be shown: {_name(strange)})"]
    return reason("".join(lines).rstrip("\n"), REASON_LIMIT_BYTES)


def detail_of(error: BaseException) -> str:
    """Return the text that a handler gave an exception on purpose; limits as in ``describe``."""
    try:
        text = str(error)
    except BaseException as strange:  # noqa: BLE001 - an exception's own __str__ may do anything
        text = f"{_name(error)} (its text cannot be shown: {_name(strange)})"
    return reason(text, REASON_LIMIT_BYTES)


def value_of(error: BaseException) -> bytes | None:
    """Return the bytes that an exception carries for programs; None if it has none, or more than may be kept.

    This never raises, whatever the exception is like.
    """
    try:
        value = getattr(error, FAILURE_VALUE_ATTRIBUTE, None)
        if not isinstance(value, bytes | bytearray | memoryview):
            return None
        taken = bytes(value)
    except BaseException:  # noqa: BLE001 - an exception's own attributes may do anything
        return None
    return taken if len(taken) <= FAILURE_VALUE_LIMIT_BYTES else None


def _name(error: BaseException) -> str:
    return type(error).__qualname__
