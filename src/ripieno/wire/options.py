"""Conversion of task options between messages and domain."""

from google.protobuf.duration_pb2 import Duration

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import OptionChanges, TaskOptions, check_changes, check_options
from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.wire.protos.v1 import tasks_pb2


def options_from_wire(where: str, message: objects_pb2.TaskOptions) -> TaskOptions:
    """Decode and check task options; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: if an option is missing or out of range; the text names its field and value.
    """
    if not message.HasField("max_duration"):
        raise InvalidRequestError(f"{where}.max_duration", "is not set; give the time limit of an attempt")
    options = TaskOptions(
        max_duration_us=_microseconds(message.max_duration),
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


def changes_from_wire(where: str, message: tasks_pb2.RetryOptions) -> OptionChanges:
    """Decode and check changes of task options; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: if an option is out of range; the text names its field and value.
    """
    changes = OptionChanges(
        _microseconds(message.max_duration) if message.HasField("max_duration") else None,
        message.max_retries if message.HasField("max_retries") else None,
        message.priority if message.HasField("priority") else None,
        dict(message.options),
    )
    check_changes(where, changes)
    return changes


def changes_to_wire(changes: OptionChanges) -> tasks_pb2.RetryOptions:
    """Encode changes of task options as a message."""
    message = tasks_pb2.RetryOptions(
        max_retries=changes.max_retries, priority=changes.priority, options=changes.options
    )
    if changes.max_duration_us is not None:
        message.max_duration.seconds, microseconds = divmod(changes.max_duration_us, 1_000_000)
        message.max_duration.nanos = microseconds * 1_000
    return message


def _microseconds(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + -(-duration.nanos // 1_000)
