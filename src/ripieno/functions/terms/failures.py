"""What a worker sends of an exception, and the exception that the caller raises for it."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ripieno.functions.terms.errors import RemoteError, RemoteTraceback
from ripieno.functions.terms.pickling import dumps

#: The longest failure that is sent; of a longer one the exception is left out, and then the traceback's beginning.
LIMIT_BYTES = 60 * 1024
_TEXT_LIMIT = 16 * 1024
_PACKAGE = str(Path(__file__).parents[2])


@dataclass(frozen=True, slots=True)
class RemoteFailure:
    """How a function failed.

    Attributes:
        type_name: The class of the exception.
        text: The exception's text.
        traceback: The traceback as text, with its causes, without this package's frames above the function.
        line: Where it was raised: ``file:line in function``; empty where that is not known.
        error: The exception; None where it could not be sent or read.
        unreadable: Why not.
    """

    type_name: str
    text: str
    traceback: str
    line: str
    error: BaseException | None
    unreadable: str = ""

    def raised(self) -> BaseException:
        """Return the exception to raise at the caller, with the remote traceback as its cause."""
        error = self.error
        if error is None:
            text = f"{self.type_name}: {self.text}" if self.text else self.type_name
            error = RemoteError(text, self.type_name)
            if self.unreadable:
                error.add_note(
                    f"the {self.type_name} itself could not be brought here ({self.unreadable}): a class of exceptions with"
                    " arguments of its own hands them all to super().__init__, or has a __reduce__ that returns them"
                )
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(self.traceback))
        return error


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception of any class, even of one that refuses to be changed (a frozen dataclass)."""
    notes = getattr(error, "__notes__", None)
    BaseException.__setattr__(error, "__notes__", [*notes, note] if isinstance(notes, list) else [note])


def encode_failure(error: BaseException) -> tuple[bytes, str]:
    """Return what is sent of an exception that a function raised, and its traceback as text.

    Never raises, whatever the exception is like.
    """
    parts = _described(error)
    try:
        pickled: bytes | None = dumps(error, "the exception", None).data
    except BaseException:  # noqa: BLE001 - an exception's own methods may raise anything, SystemExit among it
        pickled = None
    encoded = pickle.dumps((*parts, pickled), 5)
    if len(encoded) > LIMIT_BYTES:
        encoded = pickle.dumps((*parts, None), 5)
    return encoded, parts[2]


def decode_failure(encoded: bytes) -> RemoteFailure | None:
    """Return what a worker sent of an exception; None if it is none of ours. Runs what the pickle says."""
    try:
        type_name, text, shown, line, pickled = pickle.loads(encoded)  # noqa: S301 - as results do
    except BaseException:  # noqa: BLE001 - bytes of anybody; SystemExit would end the client's loop
        return None
    return RemoteFailure(type_name, text, shown, line, *_unpickled(pickled))


def _unpickled(pickled: Any) -> tuple[BaseException | None, str]:
    """Return a pickled exception, or None and why it cannot be read here, where its class may be missing or refuse."""
    if not isinstance(pickled, bytes):
        return None, "it cannot be pickled, or is too large"
    try:
        error = pickle.loads(pickled)  # noqa: S301 - as above
    except BaseException as refused:  # noqa: BLE001 - a constructor may raise anything; SystemExit would end the loop
        return None, _described(refused)[1][:500]
    return (error, "") if isinstance(error, BaseException) else (None, "its pickle is no exception")


def _described(error: BaseException) -> tuple[str, str, str, str]:
    name = type(error).__qualname__
    if type(error).__module__ not in ("builtins", "__main__"):
        name = f"{type(error).__module__}.{name}"
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        frames = frames.tb_next
    try:
        text = str(error)
        shown = "".join(traceback.format_exception(type(error), error, frames)).rstrip("\n")
        last = traceback.extract_tb(frames)[-1:]
    except BaseException as strange:  # noqa: BLE001 - an exception's own methods may raise anything
        text = shown = f"(its text cannot be shown: {type(strange).__qualname__})"
        last = []
    line = "".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in last)
    return name, text[:_TEXT_LIMIT], _shortened(shown), line


def _shortened(text: str) -> str:
    """Keep the end of a long traceback, where the exception is."""
    return text if len(text) <= _TEXT_LIMIT else f"[...]\n{text[-_TEXT_LIMIT:]}"
