"""``Initialized``: a function before whose first call in a worker an initializer is called there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from ripieno.functions.terms.decorator import name_of


class InitializerError(BrokenExecutor):
    """An executor's initializer raised in a worker; the cause says what."""


class Initialized:
    """A function that is called once its worker is initialized for an executor.

    Args:
        executor_id: Names the executor; each worker process is initialized once for it.
        function: The function.
    """

    def __init__(
        self,
        executor_id: str,
        initializer: Callable[..., object],
        initargs: Sequence[Any],
        function: Callable[..., Any],
    ) -> None:
        self._parts = (executor_id, initializer, tuple(initargs), function)
        self.__module__ = getattr(function, "__module__", None) or ""
        self.__qualname__ = name_of(function).removeprefix(f"{self.__module__}.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Initialize this process for the executor unless that was done, and call the function.

        Raises:
            InitializerError: the initializer raised, now or the first time.
            Exception: what the function raised.
        """
        executor_id, initializer, initargs, function = self._parts
        with _lock:
            if executor_id not in _outcomes:
                try:
                    initializer(*initargs)
                except Exception as error:  # noqa: BLE001 - kept, and raised for each call
                    _outcomes[executor_id] = error
                else:
                    _outcomes[executor_id] = None
            outcome = _outcomes[executor_id]
        if outcome is not None:
            raise InitializerError(f"{type(outcome).__name__}: {outcome}") from outcome
        return function(*args, **kwargs)

    def __reduce__(self) -> Any:
        """Pickle as the parts."""
        return Initialized, self._parts


_lock = threading.Lock()
#: What this process's initializers raised, by executor; None where one ended well.
_outcomes: dict[str, Exception | None] = {}
