"""Faults: translates errors of PostgreSQL, its driver and the network into errors that say whose fault it is.

Every failure of the database is looked up in one table (``TABLE``), and only errors of this project
leave the store. There are three kinds of faults:

* *of the system* (connections, resources, interventions, a server that is read-only, crossings, locks,
  and unknown errors): safe to try again, and tried again where nobody waits;
* *of the input* (data that PostgreSQL cannot hold, integrity, limits of a value): trying again
  does not help, and only what was written is to blame;
* *bugs of ours* (a statement that does not parse, arguments of the wrong number or type): callers are
  told that it is a bug, and the log has the details.

Errors of the object store are translated by ``ripieno.objects.store_fault``.

A SQLSTATE is looked up whole first, then by its class, its first two characters
(PostgreSQL's manual, appendix A).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg

from ripieno.domain.errors import (
    InvalidRequestError,
    InvariantError,
    OverloadedError,
    RipienoError,
    UnavailableError,
)

AGAIN = "nothing happened, try again"


class ConnectionLostError(UnavailableError):
    """The connection broke, or was given up, during a statement, which may have been carried out or not."""


class CrossedError(UnavailableError):
    """PostgreSQL refused the transaction because it crossed another one: nothing happened, run it again."""


class NotWritableError(UnavailableError):
    """The server takes no writes: a standby, or set to be read-only. Another connection may find the primary."""


class NoRoomForConnectionError(UnavailableError):
    """The server has no connection left for us."""


class RefusedError(UnavailableError):
    """The server refuses us: a wrong password, no such database, no right.

    At the start of a process the fault is in its settings. Later it is not, since the settings were right before.
    """


class StaleError(UnavailableError):
    """The request rests on what was read from another incarnation of the database: nothing happened, try again."""


#: The usual text of a ``StaleError``.
OTHER_INCARNATION = "the database is not the one that was asked before; nothing happened, try again"


class StatementCancelledError(UnavailableError):
    """The server cancelled the statement, which took longer than it may, or because somebody asked the server to."""


class UnstorableError(InvalidRequestError):
    """The database cannot store the data of the request; the fault is in the data."""


Kind = Callable[[str], RipienoError]


def _lost(said: str) -> RipienoError:
    return ConnectionLostError(f"the database cannot be reached; try again ({said})")


def _busy(said: str) -> RipienoError:
    return UnavailableError(f"the database did not do it; {AGAIN} ({said})")


def _cancelled(said: str) -> RipienoError:
    return StatementCancelledError(f"the database did not do it; {AGAIN} ({said})")


def _crossed(said: str) -> RipienoError:
    return CrossedError(f"transactions crossed; {AGAIN} ({said})")


def _full(said: str) -> RipienoError:
    return OverloadedError(f"the disk of the database is full; make room there, then try again ({said})")


def _crowded(said: str) -> RipienoError:
    return NoRoomForConnectionError(f"the database has no connection left for us; {AGAIN} ({said})")


def _not_writable(said: str) -> RipienoError:
    return NotWritableError(f"the database takes no writes at present (a standby, or read-only); {AGAIN} ({said})")


def _refused(said: str) -> RipienoError:
    return RefusedError(f"the database refuses us: {said}")


def _not_ours(said: str) -> RipienoError:
    return UnavailableError(f"the database does not hold the schema of this release; {AGAIN} ({said})")


def _input(said: str) -> RipienoError:
    return UnstorableError("", f"the database cannot store this: {said}")


def _bug(said: str) -> RipienoError:
    return InvariantError(f"a statement of ours is wrong: {said}")


#: Maps a SQLSTATE, or its class, to its meaning. A state that is not listed is a fault of the system, and retried.
TABLE: Mapping[str, Kind] = {
    "08": _lost,  # connection exception
    "0A": _busy,  # feature not supported: a plan that a change of the schema has made void
    "22": _input,  # data exception
    "23": _input,  # integrity constraint violation
    "25006": _not_writable,
    "25": _lost,  # invalid transaction state: the server gave up the transaction
    "28": _refused,  # invalid authorization
    "3D": _refused,  # no such database
    "3F": _not_ours,  # no such schema
    "40": _crossed,  # transaction rollback: serialization, deadlock
    "40003": _lost,  # unknown whether the statement was carried out
    "42": _bug,  # syntax error or access rule violation
    "42501": _refused,  # insufficient privilege
    "42P01": _not_ours,  # no such table
    "42703": _not_ours,  # no such column
    "42883": _not_ours,  # no such function
    "42P05": _lost,  # prepared statement exists already: others use this session, too
    "26": _lost,  # no such prepared statement: others use this session, too
    "53": _busy,  # insufficient resources
    "53100": _full,
    "53300": _crowded,
    "54": _input,  # program limit exceeded: what was to be written is too large
    "55": _busy,  # not in prerequisite state: locks
    "55000": _busy,
    "57": _lost,  # operator intervention: shutting down, starting up, crashed
    "57014": _cancelled,
    "58": _busy,  # system error: I/O
    "XX": _busy,  # internal error
}


def translated(error: BaseException) -> RipienoError | None:
    """Translate a failure of the database; return None for any other error (a cancellation, our own errors).

    A caller that gets None must raise the error by ``raise`` alone: an error that is its own cause makes
    readers of causes loop.
    """
    message: Any = getattr(error, "message", None)
    if isinstance(error, asyncpg.DataError) and message is None:  # raised by the driver, before anything was sent
        return _input(str(error)) if _is_too_large(error) else _bug(str(error))
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error)
    if isinstance(error, asyncpg.UnsupportedClientFeatureError) or _is_of_wrong_count(error):
        return _bug(str(error))
    if isinstance(error, asyncpg.ClientConfigurationError):
        return InvalidRequestError("database", str(error))
    if isinstance(error, OSError):  # a TimeoutError is one
        # The text omits the address: callers get to see it, and must not learn where the database is.
        return _lost(os.strerror(error.errno) if error.errno else type(error).__name__)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return _lost(str(error) or type(error).__name__)
    return None


def _is_too_large(error: asyncpg.DataError) -> bool:
    """Whether a value of the right type cannot be stored: a number out of range, text that is not UTF-8."""
    return isinstance(error.__cause__, OverflowError | UnicodeError)


def _is_of_wrong_count(error: BaseException) -> bool:
    """Whether a statement got more or fewer arguments than it takes (the driver has no error class for that)."""
    return isinstance(error, asyncpg.InterfaceError) and "the server expects" in str(error)


def _of_server(error: asyncpg.PostgresError) -> RipienoError:
    state: Any = getattr(error, "sqlstate", None) or ""
    said = " ".join(str(getattr(error, "message", None) or error).split()) or state
    if isinstance(error, asyncpg.PostgresIOError) and "No space left" in said:
        return _full(said)
    if isinstance(error, asyncpg.ConnectionRejectionError | asyncpg.InvalidAuthorizationSpecificationError):
        return _refused(said)
    if "pgbouncer" in said or "unsupported startup parameter" in said:
        return _refused(said)
    return (TABLE.get(state) or TABLE.get(state[:2]) or _busy)(said)
