"""Conversion of progress between messages and domain."""

from ripieno.domain.progress import Progress
from ripieno.wire.protos.v1 import agent_pb2


def progress_to_wire(progress: Progress) -> agent_pb2.Progress:
    """Encode how far an attempt has come."""
    return agent_pb2.Progress(fraction=progress.fraction, text=progress.text)


def progress_from_wire(message: agent_pb2.Progress) -> Progress:
    """Decode how far an attempt has come; what is out of range is put into it."""
    return Progress.sound(message.fraction, message.text)
