"""What tasks run on, for clients: what they are, and their payloads a piece at a time, as the client takes them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ripieno.control.results.downloads import pieces
from ripieno.control.results.room import Room
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier
from ripieno.store.cluster.objects import ObjectStore
from ripieno.store.database.database import Database
from ripieno.store.reading.inputs import TaskInputs, inputs_of_task
from ripieno.wire.options import options_to_wire
from ripieno.wire.protos.v1 import tasks_pb2


class Inputs:
    """Looks up what tasks run on.

    Args:
        database: The database.
        objects: The object store.
        downloads: The room in memory of all downloads.
    """

    def __init__(self, database: Database, objects: ObjectStore, downloads: Room) -> None:
        self._database = database
        self._objects = objects
        self._downloads = downloads

    async def messages(self, task_id: str, offset: int) -> AsyncGenerator[tasks_pb2.TaskInputs, None]:
        """Yield what a task is, and its payload from ``offset`` on. Use ``contextlib.aclosing``.

        Raises:
            InvalidRequestError: if the id breaks a rule, or the offset is negative.
            NotFoundError: if there is no such task.
            ConflictError: if its payload is gone, or is not there yet.
            UnavailableError: if the object store does not answer, or has lost the payload.
        """
        check_identifier("task_id", task_id)
        if offset < 0:
            raise InvalidRequestError("offset", f"is {offset}; it counts bytes to leave out")
        found = await inputs_of_task(self._database, task_id)
        payload, head = found.payload, _head(found)
        if not isinstance(payload, StoredObject):
            yield tasks_pb2.TaskInputs(head=head, payload=payload[offset:], complete=True)
            return
        sent = min(offset, payload.size)
        yield tasks_pb2.TaskInputs(head=head, complete=sent == payload.size)
        async with aclosing(pieces(self._objects, payload, self._downloads, sent)) as read_on:
            async for piece in read_on:
                sent += len(piece)
                yield tasks_pb2.TaskInputs(payload=piece, complete=sent == payload.size)


def _head(found: TaskInputs) -> tasks_pb2.TaskInputs.Head:
    payload = found.payload
    return tasks_pb2.TaskInputs.Head(
        task_id=found.task_id,
        session_id=found.session_id,
        options=options_to_wire(found.options),
        expected_output_keys=found.expected_output_keys,
        data_dependencies=found.data_dependencies,
        payload_key=found.payload_key or "",
        payload_size=payload.size if isinstance(payload, StoredObject) else len(payload),
    )
