"""Comparing what a handler made now with what is recorded: bytes, and how they differ; reasons of failures."""

import difflib
import pickle
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from ripieno.cli.calling.terminal import printable

_PIECE_BYTES = 1024 * 1024
#: Results up to this size are shown where they differ; of larger ones the place is told.
_SHOWN_BYTES = 256 * 1024
#: The most lines of a difference, and the most characters of a line.
_SHOWN_LINES = 30
_SHOWN_CHARACTERS = 200
#: Bytes before and behind the first difference.
_AROUND_BYTES = 12


class Compared(NamedTuple):
    """How two things compare: whether they are the same, and lines that say it."""

    same: bool
    lines: Sequence[str]


def compare_bytes(recorded: BinaryIO, now: BinaryIO, *, pickled: bool) -> Compared:
    """Compare two files, in bounded memory.

    Args:
        recorded: The one.
        now: The other.
        pickled: Whether they may be unpickled, to tell equal values from others: that runs what they say.
    """
    place = _first_difference(recorded, now)
    old, new = _size(recorded), _size(now)
    if place is None:
        return Compared(same=True, lines=[f"the same ({old:,} bytes)"])
    head = f"different from byte {place:,} on ({old:,} bytes recorded, {new:,} now)"
    if max(old, new) > _SHOWN_BYTES:
        return Compared(same=False, lines=[head, *_hexadecimal(recorded, now, place)])
    before, after = _whole(recorded), _whole(now)
    if pickled and (values := _values(before, after)) is not None:
        return values if values.same else Compared(same=False, lines=[head, *values.lines])
    if (lines := _difference_of_texts(before, after)) is not None:
        return Compared(same=False, lines=[head, *lines])
    return Compared(same=False, lines=[head, *_hexadecimal(recorded, now, place)])


def compare_reasons(recorded: str, now: str) -> Compared:
    """Compare the reasons of two failures."""
    if recorded == now:
        return Compared(same=True, lines=["it fails for the same reason:", *_shown(now.split("\n"))])
    if recorded.rsplit("\n", 1)[-1] == now.rsplit("\n", 1)[-1]:
        return Compared(
            same=True, lines=["it fails with the same last line, from another place:", *_shown(now.split("\n"))]
        )
    diff = difflib.unified_diff(recorded.split("\n"), now.split("\n"), "recorded", "now", lineterm="")
    return Compared(same=False, lines=["it fails for another reason:", *_shown(list(diff))])


def _first_difference(one: BinaryIO, other: BinaryIO) -> int | None:
    one.seek(0)
    other.seek(0)
    place = 0
    while True:
        mine, theirs = one.read(_PIECE_BYTES), other.read(_PIECE_BYTES)
        if mine != theirs:
            shorter = min(len(mine), len(theirs))
            return place + next((at for at in range(shorter) if mine[at] != theirs[at]), shorter)
        if not mine:
            return None
        place += len(mine)


def _values(before: bytes, after: bytes) -> Compared | None:
    """Compare two pickles by their values; None if one of them is none, or cannot be read here."""
    try:
        old, new = pickle.loads(before), pickle.loads(after)  # noqa: S301 - the handler has run by now
        same = bool(old == new)
        shown = [f"recorded: {_short(repr(old))}", f"now:      {_short(repr(new))}"]
    except Exception:  # noqa: BLE001 - values of any kind are compared, whose methods may raise anything
        return None
    return Compared(same, ["an equal value, of other bytes"] if same else shown)


def _difference_of_texts(before: bytes, after: bytes) -> list[str] | None:
    try:
        old, new = before.decode().splitlines(), after.decode().splitlines()
    except UnicodeDecodeError:
        return None
    return _shown(list(difflib.unified_diff(old, new, "recorded", "now", lineterm="", n=1)))


def _hexadecimal(recorded: BinaryIO, now: BinaryIO, place: int) -> list[str]:
    start = max(0, place - _AROUND_BYTES)
    lines = []
    for name, file in (("recorded", recorded), ("now", now)):
        file.seek(start)
        lines.append(f"{name + ':':9} {file.read(2 * _AROUND_BYTES).hex(' ')}  (from byte {start:,})")
    return lines


def _shown(lines: Sequence[str]) -> list[str]:
    shown = [_short(printable(line)) for line in lines[:_SHOWN_LINES]]
    return [*shown, f"[{len(lines) - _SHOWN_LINES:,} more lines]"] if len(lines) > _SHOWN_LINES else shown


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
