"""``Result``: a final result, and how results are yielded in batches as they become final."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from ripieno.client.connection.connection import Connection
from ripieno.client.reading.fetching import Wanted, fetch_all
from ripieno.client.reading.following import Follower, NotPushedError
from ripieno.client.reading.waiting import waited_for
from ripieno.client.terms.errors import task_failure
from ripieno.client.terms.handles import TaskHandle
from ripieno.domain.data import StoredObject
from ripieno.domain.errors import NotFoundError, RipienoError
from ripieno.wire.outcomes import stored_from_wire
from ripieno.wire.protos.armonik_v2 import result_status_pb2
from ripieno.wire.protos.v1 import results_pb2

#: The handle that a result belongs to, or None where it was asked for by its key.
TaskT = TypeVar("TaskT", bound=TaskHandle | None, covariant=True)


class Result(Generic[TaskT]):
    """A result that is final: its bytes, or why there are none.

    Attributes:
        key: The result's key.
        task: The handle that the result was asked for with; None if it was asked for by its key.
        error: Why the result will never exist (TaskFailedError, or NotFoundError for a key that
            no task has announced); None if it exists.
        has_data: Whether the result carries its bytes.
        size: The result's size in bytes; None if it does not exist, or if its data was left out and
            the server did not say.
        stored: The object that holds the bytes, if the object store is a directory.
    """

    __slots__ = ("_data", "error", "has_data", "key", "size", "stored", "task")

    def __init__(
        self,
        key: str,
        task: TaskT,
        data: bytes | None,
        *,
        size: int | None = None,
        stored: StoredObject | None = None,
        error: RipienoError | None = None,
    ) -> None:
        self.key = key
        self.task = task
        self.error = error
        self.stored = stored
        self.has_data = data is not None
        self.size = size if data is None else len(data)
        self._data = data

    @property
    def data(self) -> bytes:
        """The result's bytes.

        Raises:
            TaskFailedError: the result was aborted.
            NotFoundError: no task announced the key.
            ValueError: the result was asked for without its data.
        """
        if self._data is not None:
            return self._data
        if self.error is not None:
            raise self.error
        raise ValueError(f"result {self.key!r} was followed without its data; stream it with result_chunks or download")

    def __repr__(self) -> str:
        """Show the key and the size or the error."""
        return f"<Result {self.key!r} {f'{self.size} bytes' if self.error is None else repr(self.error)}>"


async def result_batches(
    connection: Connection,
    session_id: str,
    results: Iterable[TaskHandle | str],
    *,
    with_data: bool,
    large_data: bool = True,
) -> AsyncGenerator[list[Result[Any]], None]:
    """Yield results as they become final, each once, in batches as they come over the wire.

    If ``with_data``, large results come after the small ones of their batch, one by one; without ``large_data``
    they come in their place, and have no data.

    Raises:
        RipienoError: the session is unknown, or no server answered.
    """
    owners: dict[str, TaskHandle | None] = {}
    for one in results:
        if isinstance(one, str):
            owners.setdefault(one)
        else:
            for key in one.expected_outputs:
                owners[key] = one
    async for batch in _final(connection, session_id, owners, with_data=with_data):
        ready: list[Result[Any]] = []
        large: list[Wanted] = []
        for final in batch:
            result = final_result(final, owners[final.key])
            if result.has_data or result.error is not None or not (with_data and large_data):
                ready.append(result)
            else:
                large.append(Wanted(final.key, result.stored))
        if ready:
            yield ready
        async with aclosing(fetch_all(connection, session_id, large)) as fetched:
            for key, _ in large:
                yield [Result(key, owners[key], await anext(fetched))]


async def _final(
    connection: Connection, session_id: str, keys: Iterable[str], *, with_data: bool
) -> AsyncGenerator[list[results_pb2.FinishedResult], None]:
    if connection.pushes_results:
        follower = Follower(connection, session_id, with_data=with_data)
        follower.add(keys)
        follower.close()
        try:
            async for batch in follower.batches():
                yield batch
            return
        except NotPushedError:
            pass  # This call has just found out, before anything was yielded; the call below works with every server.
    async for batch in waited_for(connection, session_id, keys):
        yield batch


def final_result(final: results_pb2.FinishedResult, task: Any) -> Result[Any]:
    """Return the Result that a message describes, without data if the server left it out."""
    if final.status == result_status_pb2.RESULT_STATUS_COMPLETED:
        if (data := final.data) or final.HasField("data"):
            return Result(final.key, task, data)
        return Result(
            final.key,
            task,
            None,
            size=final.size if final.HasField("size") else None,
            stored=stored_from_wire(final.object) if final.HasField("object") else None,
        )
    if final.status == result_status_pb2.RESULT_STATUS_ABORTED:
        return Result(final.key, task, None, error=task_failure(final.key, final.error))
    return Result(
        final.key, task, None, error=NotFoundError(f"no task has announced result {final.key!r} in this session")
    )
