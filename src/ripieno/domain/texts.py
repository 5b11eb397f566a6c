"""Making text from elsewhere (exceptions, details, printed lines) storable and bounded in length.

Python's text may hold what UTF-8 cannot (lone surrogates, by which Python represents file names that
are not UTF-8), and PostgreSQL's text holds no NUL. Names with such characters are refused
(``identifiers``); a reason must not be lost because of them, so they are written out instead.
"""

import re

#: Longest reason for a failure, in bytes of UTF-8; longer ones are cut.
REASON_LIMIT_BYTES = 16 * 1024

_MARK = "\n[...]\n"
_MARK_BYTES = len(_MARK)
#: In the traceback of a group of exceptions: the line that names the group.
_GROUP = re.compile(r"  \| [\w.]+: ")


def storable(text: str) -> str:
    r"""Write out what UTF-8 or PostgreSQL's text cannot hold: a lone surrogate as ``\udce9``, NUL as ``\x00``."""
    if "\0" in text:
        text = text.replace("\0", r"\x00")
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def reason(text: str, limit_bytes: int = REASON_LIMIT_BYTES) -> str:
    """Return a storable text of at most ``limit_bytes`` bytes of UTF-8; of a longer one mostly the end is kept."""
    if len(text) > 2 * limit_bytes:
        text = text[:limit_bytes] + text[-limit_bytes:]  # so that a text of 30 MB is not encoded as a whole
        return _shorten(storable(text), limit_bytes)
    text = storable(text)
    if len(text) * 4 <= limit_bytes or len(text.encode()) <= limit_bytes:
        return text
    return _shorten(text, limit_bytes)


def _shorten(text: str, limit_bytes: int) -> str:
    """Cut the middle out of a text, between characters, so that `limit_bytes` bytes of UTF-8 are left at most."""
    encoded = text.encode()
    if limit_bytes <= 4 * _MARK_BYTES:
        return encoded[:limit_bytes].decode(errors="ignore")
    head = limit_bytes // 4
    tail = limit_bytes - head - _MARK_BYTES
    return encoded[:head].decode(errors="ignore") + _MARK + encoded[-tail:].decode(errors="ignore")


def gist(text: str, limit: int = 400) -> str:
    """Return the one line of a reason that says most: of a traceback the exception, else the first line.

    Args:
        text: A reason, of any length and number of lines.
        limit: Characters of the line; a longer one is cut, and ends in ``[...]``.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    frames = [place for place, line in enumerate(lines) if line.startswith("  File ")]
    line = lines[0]
    if frames and any(each.startswith("Traceback (most recent call last)") for each in lines):
        line = next((each for each in lines[frames[-1] :] if not each[0].isspace()), lines[-1])
    elif "Exception Group Traceback (most recent call last)" in line:
        line = next((each.removeprefix("  | ") for each in lines if _GROUP.match(each)), lines[-1])
    line = line.strip()
    return line if len(line) <= limit else f"{line[: limit - 6]} [...]"
