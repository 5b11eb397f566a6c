"""The changes of a transaction, which waiting callers are told after its commit, never before."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ripieno.domain.data import Data
from ripieno.domain.outcomes import Ticket


@dataclass(slots=True)
class Changes:
    """The changes that one or several transactions have made.

    Attributes:
        sessions: Sessions in which tasks or results have changed.
        partitions: Partitions in which tasks have become claimable.
        completed: Results that were completed, with their data, by session; known only
            to the replica that committed them.
        aborted: Keys of results that were aborted, by session.
        created: Keys of results that did not exist before and are open, by session; not all that there are.
        unnamed: Sessions in which results became final that are not named here, because
            they were too many.
        ended: Numbers of tasks whose attempts ended, by session, whether the tasks are final or not.
        stopped: Sessions in which tasks that ``ended`` does not name became final or are being cancelled.
        cancelled: Attempts to be interrupted, each with the agent that holds it.
        connected: Agents that have connected, each with the epoch of that connection.
        cuts: Sessions in which a cut is not finished: ``store.graph.cuts`` goes on with it.
        promotions: Sessions in which a promotion is not finished: ``store.graph.promotions`` goes on with it.
        followed: Attempts whose output somebody follows, each with the agent that holds it. Nothing has changed in
            the store.
        watched: Sessions of which somebody follows how far their attempts have come. Nothing has changed in the store.
        revivals: Sessions in which a revival is not finished: ``store.graph.revivals`` goes on with it.
        gone: Sessions that were purged or deleted: what was kept of their data, or of themselves, is void.
        due_in_s: In how many seconds, or sooner, a timer is due that was set; None if none was.
    """

    sessions: set[int] = field(default_factory=set)
    partitions: set[str] = field(default_factory=set)
    completed: dict[int, dict[str, Data]] = field(default_factory=dict)
    aborted: dict[int, list[str]] = field(default_factory=dict)
    created: dict[int, list[str]] = field(default_factory=dict)
    unnamed: set[int] = field(default_factory=set)
    ended: dict[int, list[int]] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)
    cancelled: list[tuple[int, Ticket]] = field(default_factory=list)
    connected: dict[int, int] = field(default_factory=dict)
    cuts: set[int] = field(default_factory=set)
    promotions: set[int] = field(default_factory=set)
    revivals: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    followed: list[tuple[int, Ticket]] = field(default_factory=list)
    watched: set[int] = field(default_factory=set)
    due_in_s: float | None = None

    def add(self, other: "Changes") -> None:
        """Add the changes of another transaction."""
        self.sessions |= other.sessions
        self.partitions |= other.partitions
        self.unnamed |= other.unnamed
        self.stopped |= other.stopped
        self.cancelled += other.cancelled
        self.followed += other.followed
        self.watched |= other.watched
        self.connected |= other.connected
        self.cuts |= other.cuts
        self.promotions |= other.promotions
        self.revivals |= other.revivals
        self.gone |= other.gone
        self.due_in_s = sooner(self.due_in_s, other.due_in_s)
        for session_no, results in other.completed.items():
            self.completed.setdefault(session_no, {}).update(results)
        for session_no, keys in other.aborted.items():
            self.aborted.setdefault(session_no, []).extend(keys)
        for session_no, keys in other.created.items():
            self.created.setdefault(session_no, []).extend(keys)
        for session_no, tasks in other.ended.items():
            self.ended.setdefault(session_no, []).extend(tasks)

    def add_completed(self, session_no: int, key: str, data: Data) -> None:
        """Note one completed result."""
        self.completed.setdefault(session_no, {})[key] = data

    def add_ended(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Note tasks whose attempts ended, each by its session and number."""
        for session_no, task_no in tasks:
            self.ended.setdefault(session_no, []).append(task_no)

    def add_aborted(self, results: Iterable[tuple[int, str]]) -> None:
        """Note results that were aborted, each by its session and key."""
        for session_no, key in results:
            self.aborted.setdefault(session_no, []).append(key)


def sooner(one: float | None, other: float | None) -> float | None:
    """Return the smaller of two times; None stands for never."""
    return min((each for each in (one, other) if each is not None), default=None)
