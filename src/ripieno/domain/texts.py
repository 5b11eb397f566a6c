"""Text for people that others made: exceptions, details, printed lines. Always storable, never endless.

Python's text may hold what UTF-8 cannot (lone surrogates: file names that are not UTF-8 come
into Python so), and PostgreSQL's text holds no NUL. Names with such characters are refused
(``identifiers``); a reason must not be lost for them, so here they are written out instead.
"""

#: A reason for a failure is cut to this many bytes of UTF-8.
REASON_LIMIT_BYTES = 16 * 1024

_MARK = "\n[...]\n"
_MARK_BYTES = len(_MARK)


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
    """A storable text of at most ``limit_bytes`` of UTF-8; most of what stays of a longer one is its end."""
    if len(text) > 2 * limit_bytes:
        text = text[:limit_bytes] + text[-limit_bytes:]  # a text of 30 MB is not encoded first
        return _shorten(storable(text), limit_bytes)
    text = storable(text)
    if len(text) * 4 <= limit_bytes or len(text.encode()) <= limit_bytes:
        return text
    return _shorten(text, limit_bytes)


def _shorten(text: str, limit_bytes: int) -> str:
    """Cut the middle out, between characters."""
    encoded = text.encode()
    if limit_bytes <= 4 * _MARK_BYTES:
        return encoded[:limit_bytes].decode(errors="ignore")
    head = limit_bytes // 4
    tail = limit_bytes - head - _MARK_BYTES
    return encoded[:head].decode(errors="ignore") + _MARK + encoded[-tail:].decode(errors="ignore")
