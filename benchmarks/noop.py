"""The task of the benchmarks: does nothing and returns 100 bytes."""

RESULT = b"x" * 100


def handle(_task: object) -> bytes:
    """Return the same bytes each time."""
    return RESULT
