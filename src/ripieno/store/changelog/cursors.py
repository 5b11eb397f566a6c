"""``Cursor``: a place in the log of changes, between what a reader has seen and what it has not."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from re import compile as pattern

from ripieno.domain.errors import InvalidRequestError

_TEXT = pattern(r"(?P<origin>[0-9a-f]{32})/(?P<seen>\d+:\d+:[\d,]*)/(?P<upto>(\d+:\d+:[\d,]*)?)/(?P<after_no>\d+)")

#: A snapshot names each transaction that was open then; there are as many as the server has sessions, at most.
_LONGEST = 500_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the log, as snapshots of PostgreSQL: the reader has seen what ``seen`` sees.

    Between two batches that is all. In the middle of a batch, the reader has also seen those changes that
    ``upto`` sees, up to number ``after_no``.

    Attributes:
        origin: Which database, and which course of its history, the snapshots are from; they mean nothing in any other.
        seen: A snapshot, as text.
        upto: The snapshot at which the batch ends; empty between two batches.
        after_no: Number of the last change that was read in the batch; 0 between two batches.
    """

    origin: str
    seen: str
    upto: str = ""
    after_no: int = 0

    def __str__(self) -> str:
        """Return the cursor as an opaque text, from which ``parse`` makes it again."""
        text = f"{self.origin}/{self.seen}/{self.upto}/{self.after_no}"
        return urlsafe_b64encode(text.encode()).decode()

    @classmethod
    def parse(cls, field: str, text: str) -> "Cursor":
        """Make a cursor from its text.

        Raises:
            InvalidRequestError: the text was not made by ``str``.
        """
        try:
            found = _TEXT.fullmatch(urlsafe_b64decode(text.encode("ascii")).decode("ascii")) if text else None
        except ValueError:
            found = None
        if found is None or len(text) > _LONGEST:
            shown = text if len(text) <= 40 else text[:40] + "..."
            raise InvalidRequestError(
                field, f"{shown!r} is not a cursor of this log; pass one as it was received, or none to begin"
            )
        return cls(found["origin"], found["seen"], found["upto"], int(found["after_no"]))
