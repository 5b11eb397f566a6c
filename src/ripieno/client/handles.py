"""Handles of submitted tasks, and what they stand for in a call."""

from collections.abc import Iterable, Mapping
from typing import Any

from ripieno.domain.errors import NotFoundError
from ripieno.domain.statuses import TaskStatus


class TaskHandle:
    """A submitted task: its id and the keys of its results. Holds no data.

    Attributes:
        id: The task's id.
        session: Where it belongs: the session of whichever flavour made it.
    """

    __slots__ = ("_outputs", "id", "session")

    def __init__(self, session: Any, task_id: str, outputs: tuple[str, ...] = ()) -> None:
        self.session = session
        self.id = task_id
        self._outputs = outputs or None

    @property
    def expected_outputs(self) -> tuple[str, ...]:
        """Keys of the results that the task makes."""
        return self._outputs or (self.id,)

    @property
    def key(self) -> str:
        """The key of the task's only result.

        Raises:
            ValueError: the task makes several results; name the one you mean.
        """
        if self._outputs is None:
            return self.id
        if len(self._outputs) > 1:
            raise ValueError(f"task {self.id!r} makes several results; name one of {', '.join(self._outputs)}")
        return self._outputs[0]

    def status_in(self, statuses: Mapping[str, TaskStatus]) -> TaskStatus:
        """The task's own among statuses by id.

        Raises:
            NotFoundError: it is not there.
        """
        if self.id not in statuses:
            raise NotFoundError(f"there is no task {self.id!r}")
        return statuses[self.id]

    def __repr__(self) -> str:
        """Show the id, and the keys where they differ from it."""
        keys = f", expected_outputs={self._outputs!r}" if self._outputs else ""
        return f"<{type(self).__name__} {self.id!r}{keys}>"


def key_of(result: str | TaskHandle) -> str:
    """The result key that a key or a task stands for."""
    return result if isinstance(result, str) else result.key


def keys_of(results: "str | TaskHandle | Iterable[str | TaskHandle]") -> list[str]:
    """The result keys that keys and tasks stand for, in order."""
    if isinstance(results, str | TaskHandle):
        return [key_of(results)]
    return [key_of(result) for result in results]


def ids_of(tasks: "str | TaskHandle | Iterable[str | TaskHandle]") -> list[str]:
    """Ids of tasks that are given as handles or as ids, in order."""
    if isinstance(tasks, str):
        return [tasks]
    if isinstance(tasks, TaskHandle):
        return [tasks.id]
    return [task if isinstance(task, str) else task.id for task in tasks]
