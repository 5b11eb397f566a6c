"""Gates: advisory locks of sessions, taken as a transaction begins (phase 1 of ``ripieno.store``)."""

from collections.abc import Iterable

#: Gates that one transaction may hold. The server's table of locks has a place for each, and is
#: shared by all replicas: with the settings that PostgreSQL comes with there are some 7,000.
MOST_GATES = 64

#: Session numbers are our own; inlined, the gates travel with ``begin`` in one round trip.
_SHARED = "select pg_advisory_xact_lock_shared({:d})"
_EXCLUSIVE = "select pg_advisory_xact_lock({:d})"


def gates(sessions: Iterable[int], exclusive: frozenset[int] = frozenset()) -> str:
    """Statements that hold the gates of these sessions until the transaction ends, in order.

    Each is a statement of its own, so that whatever follows reads with a snapshot that was
    taken after the wait.
    """
    distinct = sorted(set(sessions))
    assert len(distinct) <= MOST_GATES, f"{len(distinct)} gates in one transaction"
    return ";".join((_EXCLUSIVE if session_no in exclusive else _SHARED).format(session_no) for session_no in distinct)
