"""``LocalSession`` and ``LocalClient``: what stands in the places of a cluster's session and client, without a server."""

from __future__ import annotations

from typing import Any, NoReturn

from ripieno.client import NotFoundError, ResultHandle, TaskFailedError, TaskFailure, TaskOptions, TaskOutput
from ripieno.testing.local_tasks import LocalTasks


class LocalClient:
    """The client of a local cluster: there is no server that it could ask."""

    address = "this process"

    def __getattr__(self, name: str) -> NoReturn:
        """Say that there is nothing of that name."""
        raise AttributeError(
            f"the client of a LocalCluster has no {name!r}, as there is no server: use the fixture `cluster`, which is a"
            " real one"
        )


class LocalSession:
    """The session of a local cluster, as far as futures and functions use one.

    Attributes:
        id: The session's id.
        task_options: The default options of its tasks.
        target: The session again, where one for event loops is expected.
    """

    def __init__(self, task_options: TaskOptions, tasks: LocalTasks) -> None:
        self.id = tasks.session_id
        self.task_options = task_options
        self.target = _Awaited(self)
        self._tasks = tasks

    def output(self, task_id: str, attempt: int | None = None) -> TaskOutput:
        """Return what the latest attempt, or the one with that number, has printed."""
        return self._tasks.output(task_id, attempt)

    def failure(self, task_id: str, attempt: int | None = None) -> TaskFailure:
        """Return how the latest failed attempt, or the one with that number, failed."""
        return self._tasks.failure(task_id, attempt)

    def put(self, data: bytes, *, name: str = "") -> ResultHandle:
        """Store data, and return its handle."""
        key = f"{self.id}-stored-{len(self._tasks.stored)}"
        self._tasks.stored[key] = data
        return ResultHandle(key, name)

    def result(self, key: str) -> bytes:
        """Return the bytes of a result.

        Raises:
            NotFoundError: there is no such result.
            TaskFailedError: it will never exist.
        """
        found = self._tasks.results.get(key, self._tasks.stored.get(key))
        if found is None:
            raise NotFoundError(f"there is no result {key!r}")
        if isinstance(found, TaskFailedError):
            raise found
        return found

    def __getattr__(self, name: str) -> NoReturn:
        """Say that there is nothing of that name."""
        raise AttributeError(
            f"the session of a LocalCluster has no {name!r}: use the fixture `cluster`, which is a real one"
        )


class _Awaited:
    """The session, for code that awaits it."""

    def __init__(self, session: LocalSession) -> None:
        self._session = session

    async def failure(self, task_id: str, attempt: int | None = None) -> Any:
        return self._session.failure(task_id, attempt)
