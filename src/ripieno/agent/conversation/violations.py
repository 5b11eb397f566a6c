"""Errors for a worker that breaks the protocol, or asks for more than an attempt may."""

from ripieno.agent.conversation.gathering import Limits


class ViolationError(Exception):
    """The worker broke the protocol; the text says how. The attempt fails, others go on."""


class TooMuchError(Exception):
    """An attempt asks for more than it may; the text names the limit and a way to keep to it.

    The attempt fails for good, because it would ask for the same again.
    """


def too_long(what: str, name: str, chunk: bytes, limits: Limits) -> ViolationError:
    """Make the error for a chunk that is longer than ``data_chunk_max_size``."""
    return ViolationError(
        f"a chunk of {what} {name!r} has {len(chunk)} bytes, more than data_chunk_max_size"
        f" ({limits.data_chunk_max_size})"
    )
