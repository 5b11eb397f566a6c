"""``call_function``: calls a function that is named ``module:function`` with a JSON value; the result is its value as JSON."""

import asyncio
import importlib
import inspect
import json
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ripieno.worker.author.task import Task
from ripieno.worker.author.with_task import with_task
from ripieno.worker.terms.errors import TaskError


@with_task
def call_function(task: Task, name: str, text: str, *, spread: bool) -> bytes:
    """Call a function with a JSON value as its only argument; return what it returns as JSON, in UTF-8 and on one line.

    A coroutine function is run on an event loop of its own.

    Args:
        task: The task, which the function does not see.
        name: ``MODULE:FUNCTION``; the module must be installed where the worker runs, or lie in its directory.
        text: The value, as JSON.
        spread: Whether the value is an object whose members are keyword arguments instead.

    Raises:
        TaskError: this worker has no such function, or it returned what JSON cannot hold.
        Exception: what the function raised: the attempt has failed.
    """
    function = _find(name)
    argument = json.loads(text)
    value = function(**argument) if spread else function(argument)
    if inspect.isawaitable(value):
        value = asyncio.run(_awaited(value))
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(
            f"{name} returned what JSON cannot hold ({error}): let it return numbers, texts, lists, and dictionaries"
            " whose keys are texts"
        ) from error


def _find(name: str) -> Callable[..., Any]:
    """Import a function.

    Raises:
        TaskError: there is none of that name here. An error inside the module passes through unchanged.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; one that it imports does not
        raise TaskError(
            f"this worker has no module {error.name!r}, which {name} needs: install it where the workers run, or start"
            " them (`ripieno up`) in the directory in which it lies"
        ) from error
    try:
        found = attrgetter(function_name)(module)
    except AttributeError as error:
        raise TaskError(
            f"module {module_name!r} of this worker ({getattr(module, '__file__', 'built in')}) has no"
            f" {function_name!r}; workers that have loaded an older one must be started anew"
        ) from error
    if not callable(found):
        raise TaskError(f"{name} is {type(found).__name__}, which cannot be called; name a function")
    function: Callable[..., Any] = found
    return function


async def _awaited(value: Any) -> Any:
    return await value
