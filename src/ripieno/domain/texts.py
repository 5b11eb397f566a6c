"""Making text from elsewhere (exceptions, details, printed lines) storable and bounded in length.

Python's text may hold what UTF-8 cannot (lone surrogates, by which Python represents file names that
are not UTF-8), and PostgreSQL's text holds no NUL. Names with such characters are refused
(``identifiers``); a reason must not be lost because of them, so they are written out instead.
"""

#: Longest reason for a failure, in bytes of UTF-8; longer ones are cut.
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
