"""The function that workers run for ``ripieno bench``; pickled by name, so workers must be able to import it."""

import os
import re
import socket
import time
from typing import NamedTuple

_NOTE = re.compile(rb"ripieno-bench (\d+) (\d+) (\S+) ")


class Ran(NamedTuple):
    """When and where one task ran, in nanoseconds since the epoch by the worker's clock."""

    began_ns: int
    ended_ns: int
    worker: str


def run(seconds: float, result_bytes: int, padding: bytes) -> bytes:
    """Sleep, and return a result that begins with a note of when and where the task ran.

    Args:
        seconds: How long the task takes.
        result_bytes: Size of the result; the note itself is about 70 bytes, which is the least.
        padding: Ignored; it makes the payload as large as wanted.
    """
    del padding
    began = time.time_ns()
    if seconds:
        time.sleep(seconds)
    note = f"ripieno-bench {began} {time.time_ns()} {socket.gethostname()}:{os.getpid()} "
    return note.encode().ljust(result_bytes, b".")


def read(result: bytes) -> Ran | None:
    """Find the note of ``run`` in a result as the cluster delivers it; None if there is none.

    The result is pickled, and is searched rather than unpickled: a cluster must not be able to run
    programs on the machine that measures it.
    """
    found = _NOTE.search(result)
    return Ran(int(found[1]), int(found[2]), found[3].decode(errors="replace")) if found else None
