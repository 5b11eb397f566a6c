"""Checks of a path that is to be a data directory, before anything in it is made or started."""

import errno
import os
import shutil
import sys
from pathlib import Path

from ripieno.up.errors import UpError

#: Least free space for a new database, which takes 40 MB and its log 16 MB and more: with less, PostgreSQL's
#: own error would come late.
SMALLEST_ROOM_BYTES = 100_000_000
#: Kinds of file systems that lie on other machines, which have to keep locks and syncs; not all of them do.
_NETWORKS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.rclone", "afs", "ceph", "glusterfs"}
)
_WAY_OUT = "choose another directory with --data"


def check_soundness(path: Path) -> None:
    """Check that a cluster can live in a directory, which may not exist yet.

    Raises:
        UpError: if no cluster can live there; the text says what is wrong, and what to do.
    """
    try:
        _check_kind(path)
        _check_database(path / "postgres")
        _check_room(path)
    except OSError as error:
        raise UpError(f"cannot use {path}: {error.strerror}; {_WAY_OUT}") from error


def network_file_system(path: Path) -> str | None:
    """Return the kind of network file system that an existing directory lies on; None if it is a local one."""
    kinds = _kinds_of_mounts() if sys.platform == "linux" else {}
    real = path.resolve()
    for place in (real, *real.parents):
        if (kind := kinds.get(str(place))) is not None:
            return kind if kind in _NETWORKS else None
    return None


def _check_kind(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise UpError(f"cannot use {path}: it is a link to {path.readlink()}, which is not there; {_WAY_OUT}")
    if path.exists() and not path.is_dir():
        raise UpError(f"cannot use {path}: it is a file, not a directory; {_WAY_OUT}")
    if (path / "PG_VERSION").exists():
        raise UpError(
            f"cannot use {path}: it is the data directory of a PostgreSQL server; {_WAY_OUT}, or run that server and"
            " give its database with --database URL"
        )
    owner = path.stat().st_uid if path.exists() else None
    # Root may use a directory of any owner; PostgreSQL then runs as the owner of its files.
    if owner is not None and os.geteuid() not in (0, owner):
        raise UpError(
            f"cannot use {path}: it belongs to user id {owner}, this is user id {os.geteuid()};"
            f" run as that user, or {_WAY_OUT}"
        )
    for mine in (path, *(path / name for name in ("logs", "run", "objects", "scratch"))):
        if mine.is_dir() and not os.access(mine, os.W_OK | os.X_OK):
            raise UpError(f"cannot use {path}: {mine} cannot be written; make it writable, or {_WAY_OUT}")
        if mine.exists() and not mine.is_dir():
            raise UpError(f"cannot use {path}: {mine} is not a directory; move it away, or {_WAY_OUT}")


def _check_database(files: Path) -> None:
    if files.exists() and not files.is_dir():
        raise UpError(f"{files} is not a directory; move it away, or {_WAY_OUT}")
    if not files.exists() or not os.access(files, os.R_OK | os.X_OK):
        return  # missing files are made; unreadable ones may belong to PostgreSQL's own account
    if any(files.iterdir()) and not (files / "PG_VERSION").is_file():
        raise UpError(
            f"{files} is not empty and holds no database (there is no PG_VERSION in it): move it away, restore what is"
            f" missing, or {_WAY_OUT}"
        )


def _check_room(path: Path) -> None:
    if (path / "postgres" / "PG_VERSION").exists():
        return  # an existing database can at least be read and drained on a full disk
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    free = shutil.disk_usage(existing).free
    if free < SMALLEST_ROOM_BYTES:
        raise UpError(
            f"cannot use {path}: {free / 1e6:.0f} MB are free there, and a new database takes"
            f" {SMALLEST_ROOM_BYTES / 1e6:.0f} MB; make room, or {_WAY_OUT}"
        )


def _kinds_of_mounts() -> dict[str, str]:
    """Return the places where file systems are mounted and their kinds; the last of several at one place counts."""
    kinds: dict[str, str] = {}
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    for line in lines:
        mounted, separator, source = line.partition(" - ")
        if separator:
            place = mounted.split(" ")[4]
            for escaped, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
                place = place.replace(escaped, character)
            kinds[place] = source.split(" ")[0]
    return kinds
