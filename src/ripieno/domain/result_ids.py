"""Ids of results that a client creates, made by the server.

Such an id has 36 characters in the shape of a UUID: 12 hexadecimal digits with the number of the session,
and 20 with a number that no other result of the cluster has. So the id alone leads to the session, and to the
result by the primary key (session, key): the id is the result's key.
"""

import re

#: Digits of the session's number, and of the result's own.
_SESSION_DIGITS, _RESULT_DIGITS = 12, 20

_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def result_id(session_no: int, number: int) -> str:
    """Return the id of the result with this number in the session with that number."""
    digits = f"{session_no:0{_SESSION_DIGITS}x}{number:0{_RESULT_DIGITS}x}"
    assert len(digits) == _SESSION_DIGITS + _RESULT_DIGITS, digits
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def session_of_result(key: str) -> int | None:
    """Return the number of the session that a key leads to if it is an id made here; None if it is not.

    A client may call a result of its own by a name of this shape: the caller looks for the key in that session.
    """
    return int(key.replace("-", "")[:_SESSION_DIGITS], 16) if _SHAPE.fullmatch(key) else None
