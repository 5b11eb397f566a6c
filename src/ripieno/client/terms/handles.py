"""Handles of submitted tasks, and the ids and keys that they stand for in a call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ripieno.domain.errors import NotFoundError
from ripieno.domain.identifiers import check_identifier, is_plain_identifier
from ripieno.domain.statuses import TaskStatus


class TaskHandle:
    """A submitted task: its id and the keys of its results. Holds no data.

    Attributes:
        id: The task's id.
        session: The session that made the handle: an AsyncSession or a Session.
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
        """Return this task's status from statuses by id.

        Raises:
            NotFoundError: the task is not among them.
        """
        if self.id not in statuses:
            raise NotFoundError(f"there is no task {self.id!r}")
        return statuses[self.id]

    def __repr__(self) -> str:
        """Show the id, and the keys where they differ from it."""
        keys = f", expected_outputs={self._outputs!r}" if self._outputs else ""
        return f"<{type(self).__name__} {self.id!r}{keys}>"


@dataclass(frozen=True, slots=True)
class ResultHandle:
    """A result that a client has made: usable wherever a key is, as a dependency, and as a payload. Holds no data.

    Attributes:
        key: The result's key, which the server has made.
        name: The name that people know it by; may be empty.
    """

    key: str
    name: str = ""


def checked_name(field: str, name: Any) -> str:
    """Return a session's or task's id, or a result's key, after checking that a server could know it.

    Names are checked before anything is sent, so that something that many callers share, such as
    a stream, does not break because of one name.

    Raises:
        InvalidRequestError: the name breaks a rule; the error names ``field``.
        TypeError: the name is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"{field}: a name is a str, not {type(name).__name__}")
    if not is_plain_identifier(name):
        check_identifier(field, name)
    return name


#: One result: its key, a task with one result, or the handle of a result that a client has made.
OneResult = str | TaskHandle | ResultHandle


def key_of(result: OneResult, field: str = "key") -> str:
    """Return the result key that a key or a handle stands for; errors as in ``checked_name`` and ``TaskHandle.key``."""
    return result.key if isinstance(result, TaskHandle | ResultHandle) else checked_name(field, result)


def keys_of(results: OneResult | Iterable[OneResult], field: str = "key") -> list[str]:
    """Return the result keys that keys and handles stand for, in order; errors as in ``key_of``."""
    if isinstance(results, str | TaskHandle | ResultHandle):
        return [key_of(results, field)]
    return [key_of(result, field) for result in _several(results, field)]


def ids_of(tasks: "str | TaskHandle | Iterable[str | TaskHandle]") -> list[str]:
    """Return the ids of tasks that are given as handles or ids, in order; errors as in ``checked_name``."""
    several = [tasks] if isinstance(tasks, str | TaskHandle) else _several(tasks, "task id")
    return [task.id if isinstance(task, TaskHandle) else checked_name("task id", task) for task in several]


def checked_results(results: Iterable[OneResult]) -> list[str | TaskHandle]:
    """Return tasks (for all their expected outputs) and result keys, checked; errors as in ``checked_name``."""
    if isinstance(results, str | TaskHandle | ResultHandle):
        raise TypeError("results are asked for with an iterable of tasks or keys; put a single one into a list")
    several = _several(results, "key")
    return [result if isinstance(result, TaskHandle) else key_of(result) for result in several]


def _several(names: Any, field: str) -> Iterable[Any]:
    if isinstance(names, bytes | bytearray) or not isinstance(names, Iterable):
        raise TypeError(f"{field}: a name is a str, not {type(names).__name__}")
    return names
