"""What the workers run. ``python -m ripieno.worker benchmarks.tasks:no_op``, from the repository's root."""

import os
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from ripieno.worker import Task

RESULT = b"x" * 100
PAYLOAD = b"p" * 100

_MIB = 1024 * 1024
_PIECE = bytes(range(256)) * (_MIB // 256)

_RAN = struct.Struct("<qqq")


class Ran(NamedTuple):
    """When one task ran and where: monotonic clock of the machine, in nanoseconds."""

    began_ns: int
    ended_ns: int
    worker: int

    @property
    def took_s(self) -> float:
        """How long it ran."""
        return (self.ended_ns - self.began_ns) / 1e9

    @classmethod
    def read(cls, result: bytes) -> "Ran":
        """Read the result of ``sleep``."""
        return cls(*_RAN.unpack(result))


def no_op(task: Task) -> bytes:
    """Do nothing and return 100 bytes."""
    return RESULT


def sleep(task: Task) -> bytes:
    """Sleep for as long as the payload says (seconds, as text); return when and where."""
    began = time.monotonic_ns()
    time.sleep(float(task.payload))
    return _RAN.pack(began, time.monotonic_ns(), os.getpid())


def make_or_read(task: Task) -> bytes | None:
    """Make a result of as many MiB as the payload says; without a payload, say how many bytes the dependencies have."""
    if not task.payload:
        return str(sum(_length(task, key) for key in task.data)).encode()
    task.send_result(task.expected_output_keys[0], _pieces(int(task.payload)))
    return None


def _pieces(mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield _PIECE


def _length(task: Task, key: str) -> int:
    """Read it all, piece by piece."""
    size = 0
    with task.open_data(key) as file:
        while piece := file.read(_MIB):
            size += len(piece)
    return size
