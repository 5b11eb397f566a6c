"""Finding a handler by its name."""

import importlib
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import cast

from ripieno.worker.running.runner import AsyncHandler, Handler
from ripieno.worker.terms.errors import HandlerError


def load_handler(name: str) -> Handler | AsyncHandler:
    """Import the handler called ``MODULE:FUNCTION``.

    Raises:
        HandlerError: the name has another shape, there is no such module or function, or the
            function cannot be called. An error inside the module passes through unchanged.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise HandlerError(f"{name!r} does not name a handler; write MODULE:FUNCTION, as in my_tasks:handle")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; one that it imports does not
        raise HandlerError(
            f"there is no module {error.name!r} (for the handler {name!r}); it must be installed or lie in the"
            " current directory"
        ) from error
    try:
        handler = attrgetter(function_name)(module)
    except AttributeError as error:
        raise HandlerError(f"module {module_name!r} has no {function_name!r}") from error
    if not callable(handler):
        raise HandlerError(f"{name!r} is {type(handler).__name__}, which cannot be called; name a function")
    return cast("Handler | AsyncHandler", handler)


def is_async(handler: Callable[..., object]) -> bool:
    """Return whether a handler is a coroutine function, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
