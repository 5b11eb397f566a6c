"""The handler of function tasks: calls the function of an envelope, and sends its value.

Unpickling runs whatever the payload says: use this handler only where everyone who may submit may
also run programs here. A payload that is no envelope is ``cloudpickle.dumps((function, args, kwargs))``; its
function is a handler itself if it is marked by ``with_task``.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from ripieno.client import TaskOptions
from ripieno.functions.running.code import Code
from ripieno.functions.running.context import Deferred, Planned, TaskContext, run_as
from ripieno.functions.running.inputs import Inputs
from ripieno.functions.terms.envelope import MAGIC, PYTHON, Envelope
from ripieno.functions.terms.errors import NotPicklableError
from ripieno.functions.terms.failures import encode_failure
from ripieno.functions.terms.options import CallOptions
from ripieno.functions.terms.pickling import Dumped, dumps, loads
from ripieno.worker import SubTask, Task, TaskError
from ripieno.worker.author.with_task import is_with_task
from ripieno.worker.terms.errors import FAILURE_VALUE_ATTRIBUTE

_code = Code()


def handle(task: Task) -> bytes | None:
    """Run a function task; an exception of its function fails the attempt, and travels to the caller."""
    payload = task.payload
    if not payload.startswith(MAGIC):
        function, args, kwargs = pickle.loads(payload)  # noqa: S301 - see the module
        if is_with_task(function):
            made: bytes | None = function(task, *args, **kwargs)
            return made
        return dumps(function(*args, **kwargs), "the value", None).data
    try:
        envelope = Envelope.decode(payload)
    except ValueError as error:
        raise TaskError(f"{error}; is the caller's ripieno newer than this worker's?") from error
    if envelope.python != PYTHON:
        raise TaskError(
            f"{envelope.name} was sent by Python {envelope.python}, and this worker runs Python {PYTHON}: pickled code"
            " does not go from one to the other. Run caller and workers with the same minor version"
        )
    context = TaskContext(task)
    inputs = Inputs(task)
    call = _prepared(envelope, task, inputs)
    try:
        value = run_as(context, call)
    except Exception as error:
        _send_failure(error, envelope)
        raise
    sent: bytes | None = run_as(context, lambda: _send(task, context, value, envelope.name))
    return sent


def _prepared(envelope: Envelope, task: Task, inputs: Inputs) -> Callable[[], Any]:
    """Return the call of the function with its arguments.

    Raises:
        TaskError: the worker cannot make sense of the function, as no worker like it will.
    """
    try:
        function = _code.function_of(envelope.function, task, inputs)
        arguments = loads(envelope.arguments, inputs.value_of)
    except ModuleNotFoundError as error:
        raise TaskError(
            f"this worker has no module {error.name!r}, which {envelope.name} needs: install it where the workers run,"
            " or start them (`ripieno up`) in the directory in which it lies"
        ) from error
    except AttributeError as error:
        raise TaskError(
            f"this worker's modules differ from the caller's: {error}. Bring the code of {envelope.name} to the workers,"
            " and start them anew"
        ) from error
    if envelope.each:
        return lambda: [_value(function, args, kwargs) for args, kwargs in arguments]
    args, kwargs = arguments
    return lambda: _value(function, args, kwargs)


def _value(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value


def _send_failure(error: Exception, envelope: Envelope) -> None:
    """Attach what the caller is to raise to the exception.

    Raises:
        TaskError: the caller does not want the function tried again after such an exception.
    """
    value, shown = encode_failure(error)
    if envelope.retried is not None and not isinstance(error, loads(envelope.retried)):
        raise TaskError(shown, value=value) from error
    # Not the class's own way to set attributes, which may refuse.
    BaseException.__setattr__(error, FAILURE_VALUE_ATTRIBUTE, value)


def _send(task: Task, context: TaskContext, value: Any, name: str) -> bytes | None:
    """Send a value, or create the sub-tasks that will; return bytes that the SDK is to send."""
    try:
        dumped = dumps(value, f"the value that {name} returned", task.session_id)
    except NotPicklableError as error:
        raise TaskError(str(error)) from error
    planned = context.planned
    outputs = task.expected_output_keys
    if not planned and not dumped.dependencies and not dumped.stored:
        if len(outputs) == 1:
            return dumped.data
    elif dumped.dependencies or dumped.stored:
        _create(task, _handed_over(planned, value, dumped, task))
        return None
    else:
        _create(task, [(_sub_task(each), each.options) for each in planned])
    for key in outputs:
        task.send_result(key, dumped.data)
    return None


def _handed_over(
    planned: Sequence[Planned], value: Any, dumped: Dumped, task: Task
) -> list[tuple[SubTask, CallOptions]]:
    """Return the sub-tasks, of which one makes this task's results: the one returned, or one that puts them together."""
    outputs = task.expected_output_keys
    created = [(_sub_task(each), each.options) for each in planned]
    if isinstance(value, Deferred):
        needed = {key for each in planned for key in each.call.dependencies}
        for place, each in enumerate(planned):
            if each.reference is value:
                own = (value.key,) if value.key in needed else ()
                created[place] = (_sub_task(each, (*outputs, *own)), each.options)
                return created
    argument = dumps(((value,), {}), "the value", task.session_id).data
    together = Envelope("put together", dumps(_itself, "", None).data, argument)
    return [*created, (SubTask(together.encode(), outputs, dumped.dependencies), CallOptions())]


def _itself(value: Any) -> Any:
    return value


def _sub_task(planned: Planned, outputs: tuple[str, ...] = ()) -> SubTask:
    key = planned.reference.key
    return SubTask(planned.call.payload, outputs or (key,), planned.call.dependencies, key)


def _create(task: Task, created: Sequence[tuple[SubTask, CallOptions]]) -> None:
    """Create sub-tasks, those with equal options together; options that are left out are the session's."""
    rest = list(created)
    while rest:
        options = rest[0][1]
        batch = [sub_task for sub_task, each in rest if each == options]
        rest = [(sub_task, each) for sub_task, each in rest if each != options]
        chosen = options.applied_to(TaskOptions())
        task.submit(batch, None if chosen is None else chosen.checked())
