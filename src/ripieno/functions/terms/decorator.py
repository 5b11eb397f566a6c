"""``task``: a decorator that says how a function is to be run when it is submitted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from ripieno.functions.terms.options import CallOptions

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False)
class TaskFunction(Generic[P, T]):
    """A function with options for when it is submitted. Called directly, it is what it was.

    Attributes:
        function: The function itself.
        call_options: The options.
    """

    function: Callable[P, T]
    call_options: CallOptions

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function, here."""
        return self.function(*args, **kwargs)

    def __reduce__(self) -> Any:
        """Pickle as the parts: the function by value or by name, as it is pickled by itself."""
        return TaskFunction, (self.function, self.call_options)

    def options(self, **changes: Any) -> TaskFunction[P, T]:
        """Return the function with other options; see ``task``."""
        return TaskFunction(self.function, _taken(changes).over(self.call_options))


@overload
def task(function: Callable[P, T], /) -> TaskFunction[P, T]: ...
@overload
def task(function: None = None, /, **options: Any) -> Callable[[Callable[P, T]], TaskFunction[P, T]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Say how a function is to be run when it is submitted; called directly, it stays what it is.

    ::

        @ripieno.task(max_retries=5, max_duration=60, priority=10)
        def price(option): ...

    Args:
        options: As in ``CallOptions``.

    Raises:
        TypeError: an option is unknown.
    """
    given = _taken(options)
    if function is not None:
        return TaskFunction(function, given)
    return lambda decorated: TaskFunction(decorated, given)


def parts_of(function: Callable[..., Any]) -> tuple[Callable[..., Any], CallOptions]:
    """Return a function without its options, and the options."""
    if isinstance(function, TaskFunction):
        return function.function, function.call_options
    return function, CallOptions()


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's name, for people."""
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"


def _taken(options: dict[str, Any]) -> CallOptions:
    try:
        return CallOptions(**options)
    except TypeError:
        known = ", ".join(CallOptions.__dataclass_fields__)
        unknown = ", ".join(sorted(set(options) - set(CallOptions.__dataclass_fields__)))
        raise TypeError(f"a task has no option {unknown}; there are {known}") from None
