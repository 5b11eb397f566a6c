"""What PostgreSQL, its driver and the network say, and whose fault it is.

THE table of this project: every failure of the database goes through it, and no other error ever
leaves the store. Three columns:

* *ours* (connections, resources, interventions, a server that is read-only, crossings, locks,
  and whatever nobody has heard of): safe to try again, and tried again where nobody waits;
* *the input's* (data that PostgreSQL cannot hold, integrity, limits of a value): trying again
  does not help, and only what was written is to blame;
* *our bugs* (a statement that does not parse, arguments of the wrong number or type): callers are
  told that it is a bug, and the log has its story.

The object store has fewer words; ``ripieno.objects.store_fault`` reads them.

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
    """The connection broke, or was given up, with a statement under way: it was carried out or not."""


class CrossedError(UnavailableError):
    """Two transactions crossed, and PostgreSQL refused this one: nothing happened, run it again."""


class NotWritableError(UnavailableError):
    """The server takes no writes: a standby, or set to be read-only. Another connection may find the primary."""


class NoRoomForConnectionError(UnavailableError):
    """The server has no connection left for us."""


class RefusedError(UnavailableError):
    """The server knows us and says no: a wrong password, no such database, no right.

    At the start of a process that is the fault of its settings. Later the settings were right before.
    """


class StaleError(UnavailableError):
    """What was asked for rests on what another incarnation of the database had said."""


#: What ``StaleError`` says as a rule.
OTHER_INCARNATION = "the database is not the one that was asked before; nothing happened, try again"


class UnstorableError(InvalidRequestError):
    """The database cannot hold what was to be written: the fault is in the data."""


Kind = Callable[[str], RipienoError]


def _lost(said: str) -> RipienoError:
    return ConnectionLostError(f"the database cannot be reached; try again ({said})")


def _busy(said: str) -> RipienoError:
    return UnavailableError(f"the database did not do it; {AGAIN} ({said})")


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


#: SQLSTATE, or its class, to what it means. Whatever is not listed is ours and retried.
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
    "40003": _lost,  # nobody knows whether the statement was carried out
    "42": _bug,  # syntax error or access rule violation
    "42501": _refused,  # insufficient privilege
    "42P01": _not_ours,  # no such table
    "42703": _not_ours,  # no such column
    "42883": _not_ours,  # no such function
    "42P05": _lost,  # prepared statement exists already: this session is not ours alone
    "26": _lost,  # no such prepared statement: likewise
    "53": _busy,  # insufficient resources
    "53100": _full,
    "53300": _crowded,
    "54": _input,  # program limit exceeded: what was to be written is too large
    "55": _busy,  # not in prerequisite state: locks
    "55000": _busy,
    "57": _lost,  # operator intervention: shutting down, starting up, crashed
    "57014": _busy,  # statement cancelled
    "58": _busy,  # system error: I/O
    "XX": _busy,  # internal error
}


def translated(error: BaseException) -> RipienoError | None:
    """What a failure of the database means; None for what is no failure of it (a cancellation, our own errors).

    What is told as it was is to be raised by ``raise`` alone: an error that is its own cause sends
    whoever follows causes in circles.
    """
    message: Any = getattr(error, "message", None)
    if isinstance(error, asyncpg.DataError) and message is None:  # the driver's, before anything was sent
        return _input(str(error)) if _is_too_large(error) else _bug(str(error))
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error)
    if isinstance(error, asyncpg.UnsupportedClientFeatureError) or _is_of_wrong_count(error):
        return _bug(str(error))
    if isinstance(error, asyncpg.ClientConfigurationError):
        return InvalidRequestError("database", str(error))
    if isinstance(error, OSError):  # a TimeoutError is one
        # Without the address: this is told to callers, who are not to know where the database is.
        return _lost(os.strerror(error.errno) if error.errno else type(error).__name__)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return _lost(str(error) or type(error).__name__)
    return None


def _is_too_large(error: asyncpg.DataError) -> bool:
    """Whether a value is of the right type and yet cannot be held: a number out of range, text that is no UTF-8."""
    return isinstance(error.__cause__, OverflowError | UnicodeError)


def _is_of_wrong_count(error: BaseException) -> bool:
    """Whether a statement was given more or fewer arguments than it takes (the driver has no class of its own)."""
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
