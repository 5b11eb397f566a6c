"""New tasks as a client or a worker submits them, and the rules they must keep."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ripieno.domain.data import Data
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier, is_plain_identifier


class NewTask(NamedTuple):
    """One task to be created.

    Attributes:
        id: The task's id; global, chosen by the submitter.
        expected_output_keys: Keys of the results that the task must make.
        data_dependencies: Keys of the session's results that the task needs first; the same key
            twice counts once, but reaches the worker as often as it is named.
        payload: The task's input; empty if a result is its payload.
        payload_key: Key of the session's result whose data is the payload, and which the task needs first like a
            data dependency; None if the payload comes with the task.
    """

    id: str
    expected_output_keys: Sequence[str]
    data_dependencies: Sequence[str]
    payload: Data
    payload_key: str | None = None

    def needs(self) -> list[str]:
        """Return the distinct keys of the results that the task needs first, its payload's included."""
        if self.payload_key is None:
            return list(dict.fromkeys(self.data_dependencies))
        return list(dict.fromkeys((*self.data_dependencies, self.payload_key)))


def check_tasks(where: str, tasks: Sequence[NewTask]) -> None:
    """Check the names in one batch of new tasks; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: if there is no task, a name breaks the rules for names, a task id or an
            expected output key occurs twice, or a task depends on its own output.
    """
    if not tasks:
        raise InvalidRequestError(where, "is empty; submit at least one task")
    ids: set[str] = set()
    keys: set[str] = set()
    for index, task in enumerate(tasks):
        if not is_plain_identifier(task.id):
            check_identifier(f"{where}[{index}].id", task.id)
        if task.id in ids:
            raise InvalidRequestError(f"{where}[{index}].id", f"{task.id!r} stands twice in this request")
        ids.add(task.id)
        for key in task.expected_output_keys:
            if not is_plain_identifier(key):
                check_identifier(f"{where}[{index}].expected_output_keys", key)
            if key in keys:
                raise InvalidRequestError(
                    f"{where}[{index}].expected_output_keys", f"{key!r} stands twice in this request"
                )
            keys.add(key)
        if task.data_dependencies:
            check_dependencies(f"{where}[{index}].data_dependencies", task.data_dependencies, task.expected_output_keys)
        if task.payload_key is not None:
            check_dependencies(f"{where}[{index}].payload_key", [task.payload_key], task.expected_output_keys)


def check_dependencies(field: str, dependencies: Iterable[str], outputs: Iterable[str]) -> None:
    """Check the data dependencies of one task.

    Args:
        field: Name of the field that holds the dependencies, for the error.
        dependencies: Keys on which the task depends.
        outputs: Expected output keys of the same task.

    Raises:
        InvalidRequestError: if a key breaks the rules for names, or is an output of the task.
    """
    own = frozenset(outputs)  # a set, as there may be tens of thousands of both
    for key in dependencies:
        if not is_plain_identifier(key):
            check_identifier(field, key)
        if key in own:
            raise InvalidRequestError(field, f"{key!r} is an output of the same task, which could never run")
