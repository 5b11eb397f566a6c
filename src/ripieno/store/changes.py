"""What a transaction has changed, for those who wait: told after its commit, never before."""

from dataclasses import dataclass, field

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Ticket


@dataclass(slots=True)
class Changes:
    """What may now be looked at again.

    Attributes:
        sessions: Tasks or results of these have changed.
        partitions: Something in these has become claimable.
        completed: Results that were completed, with their data, by session: known only
            to the replica that committed them.
        aborted: Sessions in which results were aborted.
        cancelled: Attempts to be interrupted, each with the agent that holds it.
    """

    sessions: set[int] = field(default_factory=set)
    partitions: set[str] = field(default_factory=set)
    completed: dict[int, dict[str, Data]] = field(default_factory=dict)
    aborted: set[int] = field(default_factory=set)
    cancelled: list[tuple[int, Ticket]] = field(default_factory=list)

    def add(self, other: "Changes") -> None:
        """Take in what another transaction has changed."""
        self.sessions |= other.sessions
        self.partitions |= other.partitions
        self.aborted |= other.aborted
        self.cancelled += other.cancelled
        for session_no, results in other.completed.items():
            self.completed.setdefault(session_no, {}).update(results)

    def add_completed(self, session_no: int, key: str, data: Data) -> None:
        """Note one completed result."""
        self.completed.setdefault(session_no, {})[key] = data
