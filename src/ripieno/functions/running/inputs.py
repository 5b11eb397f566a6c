"""``Inputs``: the values that stand in the place of references while a task is unpickled."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ripieno.functions.terms.pickling import Named, loads
from ripieno.functions.terms.references import Kind
from ripieno.worker import Task

#: Most bytes of stored data that a worker keeps from task to task.
KEPT_BYTES = 256 * 1024 * 1024


class _Kept:
    """Data that was stored for many tasks, by key; what was not used for longest goes first."""

    def __init__(self) -> None:
        self._data: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: str, task: Task) -> bytes:
        data = self._data.get(key)
        if data is not None:
            self._data.move_to_end(key)
            return data
        data = task.common_data(key)
        if len(data) <= KEPT_BYTES:
            self._data[key] = data
            self._size += len(data)
            while self._size > KEPT_BYTES:
                self._size -= len(self._data.popitem(last=False)[1])
        return data


_kept = _Kept()


class Inputs:
    """The values of one task's references. Each is unpickled once for the task: no task sees what another changed."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._values: dict[str, Any] = {}

    def value_of(self, named: Named) -> Any:
        """Return the value that a reference stands for.

        Raises:
            ResultUnavailable: stored data is gone.
            Exception: what unpickling raised.
        """
        key, index, kind = named
        if key not in self._values:
            data = self._task.data[key] if kind == Kind.DEPENDENCY.value else _kept.get(key, self._task)
            self._values[key] = loads(data)
        value = self._values[key]
        return value if index is None else value[index]
