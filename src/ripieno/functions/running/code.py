"""``Code``: the functions that a worker has loaded, so that each is unpickled once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ripieno.functions.running.inputs import Inputs
from ripieno.functions.terms.pickling import Named, loads
from ripieno.worker import Task

#: Most functions that are kept; the one that was not used for longest goes first.
KEPT = 128


class Code:
    """Loaded functions by their pickle or the key of the result that holds it."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[bytes | str, Callable[..., Any]] = OrderedDict()

    def function_of(self, function: bytes | str, task: Task, inputs: Inputs) -> Callable[..., Any]:
        """Return a function, from its pickle or from the result that holds it.

        A function that closes over results of the cluster is not kept: its next task may have others.

        Raises:
            ResultUnavailable: the result that holds it is gone.
            Exception: what unpickling raised.
        """
        known = self._loaded.get(function)
        if known is not None:
            self._loaded.move_to_end(function)
            return known
        asked = False

        def value_of(named: Named) -> Any:
            nonlocal asked
            asked = True
            return inputs.value_of(named)

        pickled = function if isinstance(function, bytes) else task.common_data(function)
        loaded: Callable[..., Any] = loads(pickled, value_of)
        if not asked:
            self._loaded[function] = loaded
            if len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
        return loaded
