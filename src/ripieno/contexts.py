"""Contexts: the clusters that a user knows by name, in one file that only that user can read.

::

    {"in_use": "prod", "contexts": {"prod": {"address": "a:5001,b:5001", "certificate": "/etc/ca.pem", "token": "..."}}}

The file is ``$XDG_CONFIG_HOME/ripieno/contexts.json``, or ``~/.config/ripieno/contexts.json``. It may hold secrets: one
that others can read is refused. It is replaced as a whole, so that a reader sees it as it was before or after a change.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ripieno.config import ADDRESS_VARIABLE, CONTEXT_VARIABLE, DEFAULT_ADDRESS
from ripieno.domain.addresses import parse_addresses
from ripieno.domain.errors import InvalidRequestError, NotFoundError

#: A file of contexts that is longer is none.
_LARGEST_BYTES = 1024 * 1024
_FIELDS = ("address", "certificate", "token")


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster as a user knows it.

    Attributes:
        address: Its replicas, with commas between them.
        certificate: Path of the certificate that its servers are checked against; empty for none. Not used yet.
        token: Secret by which it knows the user; empty for none. Not used yet.
    """

    address: str
    certificate: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts of a user.

    Attributes:
        by_name: The contexts.
        in_use: The name of the one that is used unless something else is named; empty for none.
    """

    by_name: Mapping[str, Context] = field(default_factory=dict)
    in_use: str = ""


class Place(NamedTuple):
    """Where a cluster is, and who said so.

    Attributes:
        source: ``address``, RIPIENO_ADDRESS, or ``context NAME``; empty if nobody did.
    """

    address: str
    source: str


def contexts_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the file, which need not exist.

    Raises:
        InvalidRequestError: the user has no home directory, so that nobody knows where it would be.
    """
    folder = Path(environment.get("XDG_CONFIG_HOME", ""))
    if folder.is_absolute():  # others are to be ignored, says the specification
        return folder / "ripieno" / "contexts.json"
    try:
        home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    except RuntimeError as error:
        raise InvalidRequestError(
            "HOME", "is not set, so there is no place for contexts; set XDG_CONFIG_HOME or HOME"
        ) from error
    return home / ".config" / "ripieno" / "contexts.json"


def read_contexts(path: Path) -> Contexts:
    """Read the contexts; there are none if there is no file.

    Raises:
        InvalidRequestError: the file cannot be read, others can read it, or it is not a file of contexts. The error names
            it and the way out.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            _check_owner(path, os.fstat(file.fileno()))
            text = file.read(_LARGEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return Contexts()
    except OSError as error:
        raise InvalidRequestError(str(path), f"cannot be read: {error.strerror}; mend it, or remove it") from error
    if len(text) > _LARGEST_BYTES:
        raise InvalidRequestError(str(path), f"is longer than {_LARGEST_BYTES:,} bytes; remove what it should not hold")
    try:
        return _contexts(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(str(path), f"is not a file of contexts ({error}); mend it, or remove it") from error


def find_context(contexts: Contexts, name: str, path: Path) -> Context:
    """Return a context by name.

    Raises:
        NotFoundError: there is none; the error names those that there are.
    """
    if name not in contexts.by_name:
        known = ", ".join(repr(each) for each in sorted(contexts.by_name)) or "none"
        raise NotFoundError(f"there is no context {name!r} in {path}; there is {known}")
    return contexts.by_name[name]


def default_place(environment: Mapping[str, str] = os.environ, context: str | None = None) -> Place:
    """Return the cluster that is meant by whoever names no address.

    What counts is, in this order: ``context``, RIPIENO_ADDRESS, RIPIENO_CONTEXT, the context in use, 127.0.0.1:5001. An
    empty variable is as good as none. The file is read only if it counts.

    Args:
        environment: Variables.
        context: Name of a context that was named beside the address, as by ``--context``.

    Raises:
        NotFoundError: the context that is named does not exist.
        InvalidRequestError: the file of contexts cannot be used, or the address that counts is none.
    """
    if not context and (address := environment.get(ADDRESS_VARIABLE)):
        parse_addresses(ADDRESS_VARIABLE, address)
        return Place(address, ADDRESS_VARIABLE)
    named = context or environment.get(CONTEXT_VARIABLE)
    try:
        path = contexts_file(environment)
    except InvalidRequestError:
        if named:
            raise
        return Place(DEFAULT_ADDRESS, "")
    contexts = read_contexts(path)
    name = named or contexts.in_use
    if not name:
        return Place(DEFAULT_ADDRESS, "")
    return Place(find_context(contexts, name, path).address, f"context {name}")


def change_contexts(path: Path, change: Callable[[Contexts], Contexts]) -> Contexts:
    """Replace the contexts by what ``change`` makes of them, and return that; changes at the same time follow one another.

    The file is on the disk when this returns. If it is a symbolic link, what it leads to is replaced.

    Raises:
        InvalidRequestError: the file cannot be used (``read_contexts``), or cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = path.resolve()
        with _alone(target.parent):
            changed = change(read_contexts(target))
            _replace(target, json.dumps(_plain(changed), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InvalidRequestError(
            str(path), f"cannot be written: {error.strerror}; set XDG_CONFIG_HOME to a directory of yours"
        ) from error
    return changed


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; if it is a pipe, without waiting for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Refuse a file that somebody else can read or has written, since it may hold secrets, and says whom we speak to."""
    if os.name != "posix":
        return
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequestError(str(path), "is not a plain file; remove it")
    if status.st_uid not in (os.geteuid(), 0):
        raise InvalidRequestError(str(path), "belongs to another user, who could lead you to any cluster; remove it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise InvalidRequestError(
            str(path), f"may be used by others than you (mode {mode:04o}), and it may hold secrets: chmod 600 {path}"
        )


def _contexts(read: Any) -> Contexts:
    """Check what was read.

    Raises:
        ValueError: it is not what this module writes.
    """
    if not isinstance(read, dict) or not isinstance(read.get("contexts"), dict):
        raise ValueError("it has no object 'contexts'")
    by_name = {}
    for name, fields in read["contexts"].items():
        if not isinstance(fields, dict) or not isinstance(fields.get("address"), str):
            raise ValueError(f"context {name!r} has no address")
        if wrong := [each for each in _FIELDS if not isinstance(fields.get(each, ""), str)]:
            raise ValueError(f"{wrong[0]} of context {name!r} is no text")
        parse_address_of(name, fields["address"])
        by_name[name] = Context(*(fields.get(each, "") for each in _FIELDS))
    in_use = read.get("in_use", "")
    if not isinstance(in_use, str) or (in_use and in_use not in by_name):
        raise ValueError(f"there is no context {in_use!r}, which it says is in use")
    return Contexts(by_name, in_use)


def parse_address_of(name: str, address: str) -> None:
    """Check the address of a context.

    Raises:
        ValueError: it is none.
    """
    try:
        parse_addresses("address", address)
    except InvalidRequestError as error:
        raise ValueError(f"context {name!r}: {error.detail}") from error


def _plain(contexts: Contexts) -> dict[str, Any]:
    by_name = {
        name: {key: value for key, value in asdict(context).items() if value}
        for name, context in sorted(contexts.by_name.items())
    }
    return {"in_use": contexts.in_use, "contexts": by_name}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes that change a file in this directory waiting."""
    if os.name != "posix":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that ended in the middle: we are alone here
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
