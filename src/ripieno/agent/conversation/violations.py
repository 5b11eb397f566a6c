"""How a worker breaks the protocol, or asks for more than an attempt may."""

from ripieno.agent.conversation.gathering import Limits


class ViolationError(Exception):
    """The worker broke the protocol; the text says how. Its attempt fails, others go on."""


class TooMuchError(Exception):
    """An attempt asks for more than it may; the text says which limit it is and the way out.

    The attempt fails, finally: it would ask for the same again.
    """


def too_long(what: str, name: str, chunk: bytes, limits: Limits) -> ViolationError:
    """A chunk is longer than allowed."""
    return ViolationError(
        f"a chunk of {what} {name!r} has {len(chunk)} bytes, more than data_chunk_max_size"
        f" ({limits.data_chunk_max_size})"
    )
