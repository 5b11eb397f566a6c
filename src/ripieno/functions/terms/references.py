"""``Reference``: a value that is, or will be, a result in the cluster."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """How a task gets the value that a reference stands for."""

    #: The result of a task: a data dependency, so the task that uses it waits for it.
    DEPENDENCY = "dependency"
    #: Data that a caller has stored: fetched when a worker first needs it, and kept there.
    STORED = "stored"


class Reference:
    """A value in the cluster, by the key of its result. Usable as an argument, at any depth.

    Attributes:
        key: The result's key.
        index: The place in the list that the result holds; None for the whole.
        kind: How a task gets the value.
        session_id: The session that the result belongs to.
    """

    __slots__ = ()

    key: str
    index: int | None
    kind: Kind
    session_id: str

    def why_unusable(self) -> str:
        """Return why the reference cannot be sent from here; empty if it can."""
        return ""
