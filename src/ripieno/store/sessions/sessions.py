"""Sessions and the options of their tasks."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from ripieno.domain.errors import LimitError, NotFoundError
from ripieno.domain.filters import SessionFilter
from ripieno.domain.options import TaskOptions
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.database.remembered import Remembered

_SQL = Queries("sessions")
_SUBMISSION = Queries("submission")

#: Options with more bytes in their free map are not cached, so that they do not displace all others.
_LONGEST_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class KnownOptions:
    """Options of tasks, with the number under which they are stored."""

    options_no: int
    options: TaskOptions


@dataclass(frozen=True, slots=True)
class KnownSession:
    """The properties of a session that never change: its number, id and default options.

    Attributes:
        incarnation: Incarnation of the database that the numbers are from; in any other they mean nothing.
    """

    session_no: int
    id: str
    default: KnownOptions
    incarnation: int


class Sessions:
    """Creates and finds sessions; caches what never changes, for one incarnation of the database.

    Args:
        database: The database.
        most_options: Distinct sets of options that a session may have.
        too_many_options: Makes the error that is raised for one set more.
    """

    def __init__(
        self,
        database: Database,
        most_options: int = 10_000,
        too_many_options: Callable[[], LimitError] = lambda: LimitError("the session may have no more sets of options"),
    ) -> None:
        self._database = database
        self._most_options = most_options
        self._too_many_options = too_many_options
        # Cached values never change: number and default options of a session, number of an option set.
        self._by_id: Remembered[str, KnownSession] = Remembered(_bytes_of_session)
        self._by_number: Remembered[int, KnownSession] = Remembered(_bytes_of_session)
        self._options: Remembered[tuple[int, bytes], KnownOptions] = Remembered(_bytes_of_options)
        database.on_new_incarnation.append(self.forget_all)

    async def create(self, session_id: str, default: TaskOptions) -> bool:
        """Create a session, durably.

        Returns:
            True if the session was created; False if the id is taken, by a cancelled session too, or was deleted
            within the last year, and nothing changed.
        """
        row = await self._database.fetchrow(
            _SQL.create_session, session_id, _digest(default), *_options_columns(default)
        )
        assert row is not None  # a function has one row
        return row["session_no"] is not None

    async def find(self, session_id: str) -> KnownSession:
        """Return the session with this id.

        Raises:
            NotFoundError: no session has this id.
        """
        if known := self._by_id.get(session_id):
            return known
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SQL.find_session, session_id)
        if row is None:
            raise NotFoundError(f"session {session_id!r} does not exist; create it first")
        return self._remember(row["session_no"], session_id, row, connection.incarnation)

    async def by_number(self, session_no: int) -> KnownSession:
        """Return the session with this number, which the caller has from the store.

        Raises:
            NotFoundError: no session has this number.
        """
        if known := self._by_number.get(session_no):
            return known
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SQL.find_default_options, session_no)
        if row is None:
            raise NotFoundError(f"session number {session_no} does not exist")
        return self._remember(session_no, row["id"], row, connection.incarnation)

    async def intern_options(self, session: KnownSession, options: TaskOptions | None) -> KnownOptions:
        """Return an option set with its number, storing it if it is new; None stands for the session's default.

        Raises:
            NotFoundError: the session was deleted.
            LimitError: the set is new, and the session has as many sets as it may have.
        """
        if options is None:
            return session.default
        digest = _digest(options)
        if known := self._options.get((session.session_no, digest)):
            return known
        async with self._database.connection(session.incarnation) as connection:
            row = await connection.fetchrow(
                _SUBMISSION.intern_options, session.session_no, digest, *_options_columns(options), self._most_options
            )
        if row is None:
            raise NotFoundError(f"session {session.id!r} was deleted")
        if row["options_no"] is None:
            raise self._too_many_options()
        known = KnownOptions(row["options_no"], options)
        if session.incarnation == self._database.incarnation:
            self._remember_options(session.session_no, digest, known)
        return known

    async def list(self, which: SessionFilter, most: int | None = None) -> Sequence[str]:
        """Return the ids of matching sessions, oldest first; no more than ``most``."""
        statuses = None if which.statuses is None else [int(status) for status in which.statuses]
        rows = await self._database.fetch(_SQL.list_sessions, which.session_ids, statuses, most)
        return [row["id"] for row in rows]

    def forget(self, gone: Iterable[int]) -> None:
        """Drop what is cached of sessions that were deleted."""
        for session_no in gone:
            if known := self._by_number.drop(session_no):
                self._by_id.drop(known.id)

    def forget_all(self) -> None:
        """Empty the caches: the database is another incarnation, or any session may have been deleted meanwhile."""
        self._by_id.clear()
        self._by_number.clear()
        self._options.clear()

    def _remember(self, session_no: int, session_id: str, row: asyncpg.Record, incarnation: int) -> KnownSession:
        default = KnownOptions(row["default_options_no"], options_of(row))
        known = KnownSession(session_no, session_id, default, incarnation)
        if incarnation != self._database.incarnation:
            return known  # not cached; a statement that rests on it is refused as stale
        self._by_id.put(session_id, known)
        self._by_number.put(session_no, known)
        self._remember_options(session_no, _digest(default.options), default)
        return known

    def _remember_options(self, session_no: int, digest: bytes, known: KnownOptions) -> None:
        if _bytes_of_options(known) <= _LONGEST_REMEMBERED:
            self._options.put((session_no, digest), known)


def options_of(row: asyncpg.Record) -> TaskOptions:
    """Return options from a row that has their columns."""
    return TaskOptions(row["max_duration_us"], row["max_retries"], row["priority"], json.loads(row["options"]))


def _options_columns(options: TaskOptions) -> tuple[int, int, int, str, str]:
    return (
        options.max_duration_us,
        options.max_retries,
        options.priority,
        options.partition,
        json.dumps(dict(options.options)),
    )


def _digest(options: TaskOptions) -> bytes:
    canonical = json.dumps(
        [options.max_duration_us, options.max_retries, options.priority, sorted(options.options.items())]
    )
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).digest()


def _bytes_of_options(known: KnownOptions) -> int:
    return known.options.free_bytes


def _bytes_of_session(known: KnownSession) -> int:
    return len(known.id) + _bytes_of_options(known.default)
