"""The progress of an attempt: how far its handler says that it has come."""

import math
from typing import NamedTuple

#: The longest text in characters; of a longer one the rest is cut off.
LONGEST_TEXT = 200


class Progress(NamedTuple):
    """How far an attempt has come.

    Attributes:
        fraction: From 0 to 1.
        text: For people; at most ``LONGEST_TEXT`` characters.
    """

    fraction: float
    text: str = ""

    @classmethod
    def sound(cls, fraction: float, text: str) -> "Progress":
        """Return progress that may be kept, whatever was sent: the fraction put into its range, the text cut."""
        within = min(max(fraction, 0.0), 1.0) if math.isfinite(fraction) else 0.0
        return cls(within, text[:LONGEST_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}"))
