"""The rules for names: session ids, task ids and result keys.

Session ids and task ids are global and chosen by the client; result keys are per
session. Any non-blank string of at most 1,024 bytes of UTF-8 is a name (percent signs,
dots, hashes, spaces and other scripts included), except that NUL, which PostgreSQL's text
does not hold, and lone surrogates, which UTF-8 does not hold, cannot be part of it.
"""

import re

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.texts import is_encodable

MAX_ID_BYTES = 1024

#: Separates the parts of the task id that a worker sees on retry n: ``<id>###<n>``.
ATTEMPT_SEPARATOR = "###"
#: The largest number of an attempt.
LARGEST_ATTEMPT = 2**31 - 1
_ATTEMPT_ID = re.compile(r"^(?P<task>.+)###(?P<retry>[1-9][0-9]*)$", re.DOTALL)


def check_identifier(field: str, value: str) -> None:
    """Check one id or key.

    Raises:
        InvalidRequestError: if the value is blank, longer than 1,024 bytes, or has a NUL character
            or a lone surrogate.
    """
    if not value or value.isspace():
        raise InvalidRequestError(field, f"{value!r} is blank; give a name with at least one visible character")
    # Only a string of more than 256 characters can be longer than 1,024 bytes.
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise InvalidRequestError(field, f"{value[:40]!r}... is longer than {MAX_ID_BYTES} bytes of UTF-8")
    if "\0" in value:
        raise InvalidRequestError(field, f"{value!r} contains a NUL character, which no name may")
    if not is_encodable(value):
        raise InvalidRequestError(field, f"{value!r} contains a lone surrogate, which UTF-8 cannot hold")


def is_plain_identifier(value: str) -> bool:
    """Whether a name is certainly valid; if not, ``check_identifier`` decides.

    This check is the fast path: several names of each task pass through it.
    """
    return value.isascii() and len(value) <= MAX_ID_BYTES and "\0" not in value and bool(value) and not value.isspace()


def attempt_id(task_id: str, retry: int) -> str:
    """Return the id under which a worker sees one attempt of a task; that of the first attempt is the task's."""
    return f"{task_id}{ATTEMPT_SEPARATOR}{retry}" if retry else task_id


def attempt_of_alias(identifier: str) -> int:
    """Return the number of the attempt that an attempt id names; 0 if `identifier` does not have that shape."""
    match = _ATTEMPT_ID.match(identifier)
    return int(match["retry"]) if match else 0


def task_id_of_alias(identifier: str) -> str | None:
    """Return the task id inside an attempt id, or None if `identifier` does not have that shape.

    A task may itself be called ``x###1``: callers look up the identifier as it stands first,
    and the task id from here only if that finds nothing.
    """
    match = _ATTEMPT_ID.match(identifier)
    return match["task"] if match else None
