"""One embedded PostgreSQL server: preparation, start, supervision and stop."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from ripieno.sockets import is_short_enough, parent_for_sockets
from ripieno.store.embedded import watch
from ripieno.store.embedded.account import Account, AccountError, account_for
from ripieno.store.embedded.files import (
    DATABASE,
    SUPERUSER,
    EmbeddedPostgresError,
    check_version,
    find_binaries,
    is_missing,
    make_database,
    spawn,
)
from ripieno.store.embedded.settings import as_arguments, for_disk

#: Part of the socket's file name only; no network port is opened.
PORT = 5432

#: The longest name of the files that PostgreSQL makes for its socket.
_LONGEST_NAME = f".s.PGSQL.{PORT}.lock"
SOCKET_DIRECTORY_PREFIX = "ripieno-pg-"

#: The longest that a start may take; reading back two gigabytes of log after a crash takes much less.
START_TIMEOUT_S = 60.0
#: The longest that a stop may take before a harder signal; a fast shutdown writes one checkpoint.
STOP_TIMEOUT_S = 30.0
#: Interval of checks whether the socket still exists.
SOCKET_LOOK_S = 2.0
#: A server whose owner has ended is told to end by its sentinel, and does so within this time.
SENTINEL_TIMEOUT_S = 5.0


_log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """An embedded server on one data directory, owned by this process.

    The caller must ensure that no other live process uses the directory; a server that a dead owner
    left running there is stopped first (PG-1). The server may be started again after ``stop``, or
    after it died; in the latter case the URL stays the same.

    Example:
        async with EmbeddedPostgres(Path(".ripieno/postgres")) as url:
            connection = await asyncpg.connect(url)

    Args:
        data: The data directory; made, with its parents, if it is missing.
        log: The file to which the server's messages are appended; None for one beside the data directory.
        overrides: PostgreSQL settings that take precedence over SERVER_SETTINGS.
    """

    def __init__(self, data: Path, *, log: Path | None = None, overrides: Mapping[str, str] | None = None) -> None:
        self.data = data.absolute()
        self.log = (log or self.data.with_name(f"{self.data.name}.log")).absolute()
        self._overrides = dict(overrides or {})
        self._binaries = find_binaries()
        self._account = Account()
        self._sockets: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sentinel: watch.Sentinel | None = None
        self._log_begins = 0

    @property
    def pid(self) -> int | None:
        """Process id of the server; None if it was not started."""
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        """The URL of the database DATABASE; known once ``prepare`` was called."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of one of this server's databases.

        Raises:
            EmbeddedPostgresError: ``prepare`` was not called.
        """
        if self._sockets is None:
            raise EmbeddedPostgresError("the server was not prepared; call start() first")
        directory = quote(str(self._sockets), safe="")
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={directory}&port={PORT}"

    async def prepare(self) -> str:
        """Choose the account and the socket, and make the database files if they are missing.

        Idempotent; ``start`` calls it.

        Returns:
            The URL, at which no server listens yet.

        Raises:
            EmbeddedPostgresError: the directory or the account cannot be used; nothing was started.
        """
        if self._sockets is None:
            try:
                self.data.parent.mkdir(parents=True, exist_ok=True)
                self._account = account_for(self.data, (self.data.parent, self._binaries))
            except (AccountError, OSError) as error:
                raise EmbeddedPostgresError(str(error)) from error
            try:
                if is_missing(self.data):
                    await asyncio.to_thread(make_database, self._account, self._binaries, self.data)
                check_version(self.data)
                os.close(await self._only_us())
                self._sockets = self._socket_directory()
            except OSError as error:
                raise EmbeddedPostgresError(
                    f"cannot use {self.data}: {error.strerror or error}; choose another data directory"
                ) from error
        return self.url

    async def start(self) -> str:
        """Start the server and return its URL once it accepts connections.

        Raises:
            EmbeddedPostgresError: the server did not start; the text quotes the end of its log.
        """
        await self.prepare()
        try:
            lock = await self._only_us()
            try:
                self._process = self._spawn_server(lock)
            finally:
                os.close(lock)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise EmbeddedPostgresError(f"cannot start PostgreSQL: {error.strerror or error}{where}") from error
        self._sentinel = watch.Sentinel(self._process.pid)
        try:
            await self._wait_until_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def stop(self) -> None:
        """Stop the server: open transactions are rolled back, committed ones are on the disk.

        Idempotent. Sends harder signals if the server does not end within
        STOP_TIMEOUT_S; even then no committed transaction is lost.
        """
        if self._process is not None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                watch.send_signal(self._process.pid, number)
                if await self._ended_within(self._process, STOP_TIMEOUT_S):
                    break
        self._dismiss_sentinel()
        if self._sockets is not None and self._sockets != self.data:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._process = self._sockets = None

    async def wait(self) -> int:
        """Wait until the server ends for whatever reason; return its exit code.

        A server whose socket was removed (by a cleaner of temporary files, for instance) cannot be reached any
        more, and does not make another socket: it is told to end, so that it can be started again.

        Raises:
            EmbeddedPostgresError: the server was not started.
        """
        if self._process is None:
            raise EmbeddedPostgresError("the server was not started")
        ended = asyncio.ensure_future(asyncio.to_thread(self._process.wait))
        try:
            while not (await asyncio.wait([ended], timeout=SOCKET_LOOK_S))[0]:
                if not self._can_be_found():
                    _log.warning("PostgreSQL's socket in %s was removed; it is started again", self._sockets)
                    watch.send_signal(self._process.pid, signal.SIGINT)
                    await asyncio.wait([ended], timeout=STOP_TIMEOUT_S)
            self._dismiss_sentinel()
            return ended.result()
        finally:
            ended.cancel()

    def _can_be_found(self) -> bool:
        return self._sockets is not None and (self._sockets / f".s.PGSQL.{PORT}").exists()

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _only_us(self) -> int:
        """Stop a server that a dead owner left on the directory (PG-1); return the lock on the directory.

        Raises:
            EmbeddedPostgresError: the server did not stop.
        """
        lock = watch.try_lock(self.data)
        for number, patience_s in (
            (None, SENTINEL_TIMEOUT_S),
            (signal.SIGINT, STOP_TIMEOUT_S),
            (signal.SIGKILL, STOP_TIMEOUT_S),
        ):
            if lock is not None:
                break
            leftover = watch.recorded_pid(self.data)
            if leftover is not None and number is not None:
                watch.send_signal(leftover, number)
            lock = await watch.lock_within(self.data, patience_s)
        if lock is None:
            raise EmbeddedPostgresError(
                f"another PostgreSQL still runs on {self.data} (process {watch.recorded_pid(self.data)}) "
                "and does not stop: end it, then try again"
            )
        # The socket directory of a server that was killed together with its owner is left over.
        directory = watch.recorded_socket_directory(self.data)
        if directory and directory != self._sockets and directory.name.startswith(SOCKET_DIRECTORY_PREFIX):
            shutil.rmtree(directory, ignore_errors=True)
        return lock

    def _spawn_server(self, lock: int) -> subprocess.Popen[bytes]:
        assert self._sockets is not None, "prepare has chosen the directory"
        if not self._sockets.exists():
            self._sockets.mkdir(mode=0o700)
            self._account.own(self._sockets)
        # Stale files could name a process that is not a server, and PostgreSQL then refuses to start.
        for stale in (self.data / "postmaster.pid", *self._sockets.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)
        settings = {**for_disk(shutil.disk_usage(self.data).free), **self._overrides}
        arguments = ["-D", str(self.data), "-k", str(self._sockets), "-p", str(PORT), *as_arguments(settings)]
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            return spawn(
                self._account, self._binaries / "postgres", arguments, stdout=log, stderr=log, pass_fds=(lock,)
            )

    def _socket_directory(self) -> Path:
        """Return the directory for the socket: the data directory if the path is short enough, else a private one."""
        # PostgreSQL takes a comma for the end of a path.
        if "," not in str(self.data) and is_short_enough(self.data, _LONGEST_NAME):
            return self.data
        try:
            parent = parent_for_sockets(f"{SOCKET_DIRECTORY_PREFIX}12345678/{_LONGEST_NAME}")
            directory = Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY_PREFIX, dir=parent))
        except OSError as error:
            raise EmbeddedPostgresError(str(error)) from error
        self._account.own(directory)
        return directory

    async def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        problem = f"was not ready after {START_TIMEOUT_S:.0f} s"
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not watch.accepts_connections(self.data, process.pid):
                    if process.poll() is not None:
                        problem = f"ended with exit code {process.returncode}"
                        break
                    await asyncio.sleep(watch.POLL_S)
                else:
                    return
        except TimeoutError:
            pass  # raised below, as an early end is
        raise EmbeddedPostgresError(f"PostgreSQL {problem}; {self.log} ends with:\n{self._tail()}")

    def _tail(self, lines: int = 5) -> str:
        """Return the last lines that the server logged since its latest start."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_begins)
                said = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"(its log cannot be read: {error.strerror})"
        return "\n".join(said[-lines:])

    def _dismiss_sentinel(self) -> None:
        if self._sentinel is not None:
            self._sentinel.dismiss()
            self._sentinel = None

    @staticmethod
    async def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
        try:
            await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
