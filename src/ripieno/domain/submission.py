"""New tasks: what a client or a worker asks for, and the rules it must keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ripieno.domain.data import Data
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.identifiers import check_identifier, is_plain_identifier
from ripieno.domain.options import TaskOptions


class NewTask(NamedTuple):
    """One task to be created.

    Attributes:
        id: Global, chosen by whoever submits.
        expected_output_keys: Results that the task must make.
        data_dependencies: Result keys of the session that it needs first; the same key
            twice counts once, but reaches the worker as often as it is named.
        payload: Its input.
    """

    id: str
    expected_output_keys: Sequence[str]
    data_dependencies: Sequence[str]
    payload: Data


@dataclass(frozen=True, slots=True)
class Submission:
    """Tasks of one call: all of them come to exist, or none.

    Attributes:
        session_id: Where they belong.
        options: None takes the session's default, as a whole.
        tasks: At least one.
    """

    session_id: str
    options: TaskOptions | None
    tasks: Sequence[NewTask]


def check_tasks(where: str, tasks: Sequence[NewTask]) -> None:
    """Check the names in one batch of new tasks; ``where`` is the field that holds them.

    Raises:
        InvalidRequestError: no task at all, a blank name, or a task id or an expected
            output key twice.
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


def check_dependencies(field: str, dependencies: Iterable[str], outputs: Iterable[str]) -> None:
    """Check the data dependencies of one task.

    Args:
        field: That holds them.
        outputs: Of the same task.

    Raises:
        InvalidRequestError: one has no name, or is an output.
    """
    own = frozenset(outputs)  # there may be tens of thousands of each
    for key in dependencies:
        if not is_plain_identifier(key):
            check_identifier(field, key)
        if key in own:
            raise InvalidRequestError(field, f"{key!r} is an output of the same task, which could never run")
