"""Conversion of task options between messages and domain."""

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import TaskOptions, check_options
from ripieno.wire.protos.armonik_v2 import objects_pb2


def options_from_wire(where: str, message: objects_pb2.TaskOptions) -> TaskOptions:
    """Decode and check task options; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: if an option is missing or out of range; the text names its field and value.
    """
    if not message.HasField("max_duration"):
        raise InvalidRequestError(f"{where}.max_duration", "is not set; give the time limit of an attempt")
    options = TaskOptions(
        max_duration_us=message.max_duration.seconds * 1_000_000 + -(-message.max_duration.nanos // 1_000),
        max_retries=message.max_retries,
        priority=message.priority,
        options=dict(message.options),
    )
    check_options(where, options)
    return options


def options_to_wire(options: TaskOptions) -> objects_pb2.TaskOptions:
    """Encode task options as a message."""
    message = objects_pb2.TaskOptions(
        options=options.options, max_retries=options.max_retries, priority=options.priority
    )
    message.max_duration.seconds, microseconds = divmod(options.max_duration_us, 1_000_000)
    message.max_duration.nanos = microseconds * 1_000
    return message
