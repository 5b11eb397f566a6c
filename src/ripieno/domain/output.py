"""The output of an attempt: what its worker wrote to standard output and standard error while it ran it."""

from typing import NamedTuple

#: How much of the end of each of the two an agent keeps, in bytes, unless it is told otherwise; and the most.
OUTPUT_LIMIT_BYTES = 64 * 1024
LARGEST_OUTPUT_LIMIT_BYTES = 1024 * 1024


class AttemptOutput(NamedTuple):
    """The end of what a worker printed while it ran one attempt. Bytes, which need not be text of any encoding.

    Attributes:
        stdout: The end of what was written to standard output.
        stderr: The end of what was written to standard error.
        stdout_left_out: How many bytes were written to standard output before ``stdout``.
        stderr_left_out: How many bytes were written to standard error before ``stderr``.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    stdout_left_out: int = 0
    stderr_left_out: int = 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self.stdout) + len(self.stderr)

    @property
    def total(self) -> int:
        """Bytes that were printed, kept or not."""
        return self.size + self.stdout_left_out + self.stderr_left_out

    def cut(self, limit_bytes: int) -> "AttemptOutput":
        """Return the output with at most the last ``limit_bytes`` of each stream; this object itself if it fits."""
        if len(self.stdout) <= limit_bytes and len(self.stderr) <= limit_bytes:
            return self
        out, err = max(0, len(self.stdout) - limit_bytes), max(0, len(self.stderr) - limit_bytes)
        return AttemptOutput(
            self.stdout[out:], self.stderr[err:], self.stdout_left_out + out, self.stderr_left_out + err
        )
