"""Gates: advisory locks of sessions, taken as a transaction begins (phase 1 of ``ripieno.store``).

Statements are composed here and not in ``sql/``: there is one for each session, with its number as text.
"""

from collections.abc import Iterable

#: Gates that one transaction may hold. The server's table of locks has a place for each, and is
#: shared by all replicas: with PostgreSQL's default settings it has some 7,000 places.
MOST_GATES = 64

#: Session numbers are integers of our own, so they are safe to write into the statement; without parameters, the
#: gates travel with ``begin`` in one round trip.
_SHARED = "select pg_advisory_xact_lock_shared({:d})"
_EXCLUSIVE = "select pg_advisory_xact_lock({:d})"


def gates(sessions: Iterable[int], exclusive: frozenset[int] = frozenset()) -> str:
    """Return statements that take the gates of sessions, in order, until the transaction ends.

    Each gate is a statement of its own, so that the statements that follow read with a snapshot that was
    taken after the wait.

    Args:
        sessions: Numbers of the sessions, ``MOST_GATES`` distinct ones at most.
        exclusive: Those of the sessions whose gates are taken exclusively; the others are shared.
    """
    distinct = sorted(set(sessions))
    assert len(distinct) <= MOST_GATES, f"{len(distinct)} gates in one transaction"
    return ";".join((_EXCLUSIVE if session_no in exclusive else _SHARED).format(session_no) for session_no in distinct)
