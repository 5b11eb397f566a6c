"""``Snapshot``: which transactions somebody sees, as PostgreSQL writes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of PostgreSQL. Of two, the later one sees everything that the earlier one sees.

    Attributes:
        lowest: Every transaction below this number is seen.
        next: No transaction from this number on is seen.
        unseen: Transactions between the two that are not seen.
    """

    lowest: int
    next: int
    unseen: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Make a snapshot from its text, ``xmin:xmax:xip,...``."""
        lowest, upper, unseen = text.split(":")
        return cls(int(lowest), int(upper), frozenset(map(int, unseen.split(","))) if unseen else frozenset())

    def sees(self, transaction: int) -> bool:
        """Return whether the snapshot sees the changes of a transaction that was committed."""
        return transaction < self.next and transaction not in self.unseen

    def sees_all_of(self, other: "Snapshot") -> bool:
        """Return whether this snapshot certainly sees all that the other one, of the same database, sees."""
        if (self.lowest, self.next) == (other.lowest, other.next):
            return self.unseen <= other.unseen
        return self.lowest >= other.lowest and self.next >= other.next
