"""Where unix sockets can lie: directories whose paths are short enough, and plain.

A socket's path holds 107 bytes (103 on macOS). And what is not a plain character (``#``, ``%``,
a space) means something to some of the programs that are handed such a path as an address, and
nothing to others: gRPC of several languages decode it, not always alike.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ripieno.domain.addresses import LONGEST_SOCKET_PATH_BYTES

_PLAIN = re.compile(rb"[A-Za-z0-9/._-]+\Z")
#: Tried in this order behind what TMPDIR says. The last ones are rarely there, or are meant for other things.
_USUAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - private directories are made in them


def is_short_enough(directory: Path, longest_name: str) -> bool:
    """Whether sockets with names of this length can lie in a directory."""
    return len(os.fsencode(directory.absolute() / longest_name)) <= LONGEST_SOCKET_PATH_BYTES


def is_fit_for_sockets(directory: Path, longest_name: str) -> bool:
    """Whether they can for programs of any kind, too."""
    plain = _PLAIN.match(os.fsencode(directory.absolute())) is not None
    return plain and is_short_enough(directory, longest_name)


def parent_for_sockets(longest_name: str) -> Path:
    """An existing directory below which sockets can lie; make a private one in it.

    Args:
        longest_name: Of a socket, with that of the private directory before it.

    Raises:
        OSError: there is none; says the way out.
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
