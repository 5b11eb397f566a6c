"""Scripts and the tasks that carry them: what the steps of ``handlers.Steps`` are called with."""

import json
from collections.abc import Sequence
from typing import Any

from ripieno.client import TaskDefinition

Step = list[Any]


def script(*steps: Step) -> bytes:
    """The payload of a task that runs these steps; the value of the last one is its result."""
    return json.dumps(steps).encode()


def task(
    task_id: str, *steps: Step, keys: Sequence[str] = (), needs: Sequence[str] = (), payload: bytes | None = None
) -> TaskDefinition:
    """A task; its one result is named after it unless ``keys`` says otherwise.

    Args:
        payload: Of a task whose script stands in its options.
    """
    return TaskDefinition(script(*steps) if payload is None else payload, list(keys), list(needs), task_id)


def sub_task(
    task_id: str,
    *steps: Step,
    keys: Sequence[str] = (),
    needs: Sequence[str] = (),
    payload: str | None = None,
) -> dict[str, Any]:
    """The same for a sub-task, as the step ``submit`` takes it."""
    named: dict[str, Any] = {"id": task_id, "keys": list(keys) or [task_id], "needs": list(needs)}
    return named | ({"script": steps} if payload is None else {"payload": payload})
