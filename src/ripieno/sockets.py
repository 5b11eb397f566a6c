"""Directories in which unix sockets can lie: their paths are short enough, and plain.

A socket's path holds 107 bytes (103 on macOS). Characters that are not plain (``#``, ``%``, a space)
have a meaning for some of the programs that are handed such a path as an address, and none for
others: gRPC's implementations in several languages decode them, not always alike.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ripieno.domain.addresses import LONGEST_SOCKET_PATH_BYTES

_PLAIN = re.compile(rb"[A-Za-z0-9/._-]+\Z")
#: Directories tried in this order after TMPDIR. The last ones rarely exist, or are meant for other things.
_USUAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - private directories are made in them


def is_short_enough(directory: Path, longest_name: str) -> bool:
    """Whether a socket named `longest_name` in `directory` has a path that the kernel takes."""
    return len(os.fsencode(directory.absolute() / longest_name)) <= LONGEST_SOCKET_PATH_BYTES


def is_fit_for_sockets(directory: Path, longest_name: str) -> bool:
    """Whether the path is short enough and plain, so that programs of any kind can use sockets there."""
    plain = _PLAIN.match(os.fsencode(directory.absolute())) is not None
    return plain and is_short_enough(directory, longest_name)


def parent_for_sockets(longest_name: str) -> Path:
    """Find an existing directory below which sockets can lie; the caller makes a private one in it.

    Args:
        longest_name: Longest name of a socket, with the name of the private directory before it.

    Raises:
        OSError: if there is no such directory; the text says what to do.
    """
    tried: list[str] = []
    for directory in _candidates():
        if is_fit_for_sockets(directory, longest_name) and os.access(directory, os.W_OK | os.X_OK):
            return directory
        tried.append(str(directory))
    raise OSError(
        f"no directory for sockets: {', '.join(tried)} cannot be written or have a path that is too long or has odd"
        " characters; set TMPDIR to a directory with a short and plain path"
    )


def _candidates() -> Iterator[Path]:
    with suppress(FileNotFoundError):  # Python found none for temporary files
        yield Path(tempfile.gettempdir())
    for named in _USUAL:
        if (directory := Path(named)).is_dir():
            yield directory
    if (runtime := os.environ.get("XDG_RUNTIME_DIR")) and Path(runtime).is_dir():
        yield Path(runtime)
