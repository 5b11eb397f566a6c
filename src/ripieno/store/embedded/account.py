"""The account: the user id under which the server runs.

An ordinary user runs the server under their own id. PostgreSQL refuses to run as root, so for
root it runs as the owner of an existing data directory, or else as ``nobody``. That user
has to reach the data and the programs; below a directory closed to it (``/root``) it cannot, and
then gets the one capability that ignores directory permissions, through ``setpriv``.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = 0
#: The id of ``nobody`` by convention on Linux, used where no account of that name is listed (bare containers).
NOBODY = 65534


class AccountError(Exception):
    """No user id was found under which the server could run; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user under which programs are run.

    Attributes:
        uid: User id; None for the user of this process.
        gid: Group id; None for the group of this process.
        launcher: Command to put in front of a program so that it runs as this user.
    """

    uid: int | None = None
    gid: int | None = None
    launcher: tuple[str, ...] = ()

    def own(self, path: Path) -> None:
        """Make this user the owner of ``path``, which the caller has just made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def spawn(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program as this user; ``options`` are those of ``subprocess.Popen``.

        Raises:
            AccountError: the system refused to start the program.
        """
        if self.uid is not None and not self.launcher:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            return subprocess.Popen([*self.launcher, *command], **options)
        except OSError as error:
            raise AccountError(
                f"cannot run {command[0]} as user id {os.geteuid() if self.uid is None else self.uid}: {error}; "
                "run as an ordinary user, or give --database URL"
            ) from error


def account_for(data: Path, needed: Iterable[Path]) -> Account:
    """Choose the account for the data directory ``data``, which need not exist yet.

    Args:
        data: The data directory.
        needed: Directories that the server must be able to enter.

    Raises:
        AccountError: the data belongs to another user, or root has no way to let an
            unprivileged user reach the directories.
    """
    owner = data.stat() if data.exists() else None
    if os.geteuid() != ROOT:
        if owner is not None and owner.st_uid != os.geteuid():
            raise AccountError(
                f"{data} belongs to user id {owner.st_uid}, we are {os.geteuid()}: "
                "run as that user, or choose another data directory"
            )
        return Account()
    uid, gid = (owner.st_uid, owner.st_gid) if owner is not None and owner.st_uid != ROOT else _nobody()
    closed = [path for path in needed if not _can_enter(path, uid, gid)]
    return Account(uid, gid, _launcher_past(closed[0], uid, gid) if closed else ())


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def _can_enter(directory: Path, uid: int, gid: int) -> bool:
    """Whether the permission bits of ``directory`` and its parents let the user enter it."""
    return all(_may_search(parent.stat(), uid, gid) for parent in (directory, *directory.parents) if parent.exists())


def _may_search(status: os.stat_result, uid: int, gid: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH))


def _launcher_past(closed: Path, uid: int, gid: int) -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise AccountError(
            f"PostgreSQL does not run as root, and user id {uid} may not enter {closed}: use directories "
            "outside it, run as an ordinary user, install util-linux (setpriv), or give --database URL"
        )
    switch = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    lend = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return (setpriv, *switch, *lend)
