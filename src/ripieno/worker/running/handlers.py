"""Finding a handler by its name."""

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from operator import attrgetter
from types import ModuleType
from typing import cast

from ripieno.worker.running.runner import AsyncHandler, Handler
from ripieno.worker.terms.errors import HandlerError

#: Most functions that are named where one was looked for in vain.
_NAMED = 5


def load_handler(name: str) -> Handler | AsyncHandler:
    """Import the handler called ``MODULE:FUNCTION``.

    Raises:
        HandlerError: the name has another shape, there is no such module or function, the module cannot be
            imported, or the function cannot be called. The text says what to do, the cause is what importing raised.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise HandlerError(f"{name!r} does not name a handler; write MODULE:FUNCTION, as in my_tasks:handle")
    if module_name.endswith(".py") or any(not part.isidentifier() for part in module_name.split(".")):
        raise HandlerError(
            f"{module_name!r} is not the full name of a module (for the handler {name!r}); write"
            f" {_as_module(module_name)}:{function_name}, and run this where it can be imported from"
        )
    module = _imported(module_name, name)
    try:
        handler = attrgetter(function_name)(module)
    except AttributeError as error:
        meant = get_close_matches(function_name, _callables_of(module), n=1)
        hint = f"; did you mean {module_name}:{meant[0]}?" if meant else _there_are(_callables_of(module))
        raise HandlerError(f"module {module_name!r} has no {function_name!r}{hint}") from error
    if not callable(handler):
        raise HandlerError(f"{name!r} is {type(handler).__name__}, which cannot be called; name a function")
    return cast("Handler | AsyncHandler", handler)


def _imported(module_name: str, name: str) -> ModuleType:
    """Import a handler's module.

    Raises:
        HandlerError: it does not exist, or cannot be imported.
    """
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise HandlerError(
                f"there is no module {error.name!r} (for the handler {name!r}); it must be installed or lie in the"
                " current directory"
            ) from error
        raise HandlerError(
            f"module {module_name!r} cannot be imported: there is no module {error.name!r}{_place(error)}; install it"
            " where the worker runs"
        ) from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise HandlerError(f"module {module_name!r} cannot be imported: {said}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return the line of somebody's own code at which importing failed."""
    if isinstance(error, SyntaxError):
        return ""  # its text says where
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "importlib" not in each.filename]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _as_module(text: str) -> str:
    """Return the module that a path of a file, or a name with dots in front, was probably meant to be."""
    parts = [re.sub(r"\W", "_", part) for part in re.split(r"[/.\\]+", text.removesuffix(".py")) if part]
    return ".".join(parts) or "my_tasks"


def _callables_of(module: ModuleType) -> list[str]:
    """Return the names of the functions that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _there_are(names: Sequence[str]) -> str:
    return f"; it has {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}" if names else ""


def is_async(handler: Callable[..., object]) -> bool:
    """Return whether a handler is a coroutine function, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
