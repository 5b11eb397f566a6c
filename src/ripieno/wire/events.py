"""Changes on the wire: events, in messages of bounded size, and back."""

from collections.abc import Iterator, Sequence
from datetime import UTC

from ripieno.domain.changes import Change, ResultChange, SessionChange, TaskChange
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.wire.protos.v1 import events_pb2

#: About the most bytes of one message; an event with very many keys may be longer by itself.
_MESSAGE_BYTES = 512 * 1024
_EVENT_BYTES = 120


def event_to_wire(change: Change) -> events_pb2.Event:
    """Return a change as an event."""
    event = events_pb2.Event(session_id=change.session_id)
    event.at.FromDatetime(change.at)
    if isinstance(change, SessionChange):
        event.session.status = change.status.name
    elif isinstance(change, ResultChange):
        event.result.key = change.key
        event.result.status = change.status.name
        event.result.owner_task_id = change.owner_task_id
        event.result.size = change.size
    else:
        event.task.task_id = change.task_id
        event.task.status = change.status.name
        event.task.attempt = change.attempt
        event.task.created = change.created
        event.task.ready = change.ready
        event.task.expected_output_keys.extend(change.expected_output_keys)
        event.task.data_dependencies.extend(change.data_dependencies)
    return event


def event_batches(changes: Sequence[Change]) -> Iterator[events_pb2.EventBatch]:
    """Yield the changes in messages, in order; one empty message if there are none."""
    batch, size = events_pb2.EventBatch(), 0
    for change in changes:
        weight = _weight(change)
        if batch.events and size + weight > _MESSAGE_BYTES:
            yield batch
            batch, size = events_pb2.EventBatch(), 0
        batch.events.append(event_to_wire(change))
        size += weight
    yield batch


def _weight(change: Change) -> int:
    if isinstance(change, SessionChange):
        return _EVENT_BYTES
    if isinstance(change, ResultChange):
        return _EVENT_BYTES + len(change.key)
    return _EVENT_BYTES + sum(map(len, change.expected_output_keys)) + sum(map(len, change.data_dependencies))


def change_from_wire(event: events_pb2.Event) -> Change | None:
    """Return an event as a change; None for one of a kind that this release does not know."""
    at = event.at.ToDatetime(UTC)
    match event.WhichOneof("change"):
        case "session":
            return SessionChange(event.session_id, at, SessionStatus[event.session.status])
        case "task":
            task = event.task
            return TaskChange(
                event.session_id,
                at,
                task.task_id,
                TaskStatus[task.status],
                task.attempt,
                task.created,
                task.ready,
                tuple(task.expected_output_keys),
                tuple(task.data_dependencies),
            )
        case "result":
            result = event.result
            status = ResultStatus[result.status]
            return ResultChange(event.session_id, at, result.key, status, result.owner_task_id, result.size)
    return None
