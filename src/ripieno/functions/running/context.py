"""``current``: what a function can ask and do about the task that it runs as; and ``Deferred``."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ripieno.functions.terms.calls import Call
from ripieno.functions.terms.errors import FutureMisuseError
from ripieno.functions.terms.options import CallOptions
from ripieno.functions.terms.references import Kind, Reference
from ripieno.worker import Task


class Deferred(Reference):
    """The value of a sub-task that runs once this task has ended.

    It can be returned, alone or inside what is returned, and be an argument of further sub-tasks. Its
    value cannot be waited for here: the sub-task begins when this task is committed.

    Attributes:
        key: The key of the sub-task's result.
        name: The function's name.
    """

    __slots__ = ("index", "key", "kind", "name", "session_id")

    def __init__(self, key: str, session_id: str, name: str) -> None:
        self.key = key
        self.index = None
        self.kind = Kind.DEPENDENCY
        self.session_id = session_id
        self.name = name

    def __repr__(self) -> str:
        """Show the function's name and the key."""
        return f"<Deferred {self.name} {self.key!r}>"

    def why_unusable(self) -> str:
        """Return why the future cannot be used here: it is not of the task that runs, or of an earlier attempt of it."""
        context = _current.get(None)
        if context is None or context.has_submitted(self):
            return ""
        return (
            f"{self!r} was submitted by another task, or by an earlier attempt that failed, whose sub-tasks do not exist:"
            " submit it in the task that uses it"
        )

    def result(self, timeout: float | None = None) -> Any:
        """Raise FutureMisuseError: a task cannot wait for a task that it creates."""
        raise FutureMisuseError(
            f"{self.name} begins once this task has ended, so its result cannot be waited for here: return the future,"
            " or submit a further function that takes it as an argument, and return that one's"
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A sub-task that is created when the function returns."""

    reference: Deferred
    call: Call
    options: CallOptions


class TaskContext:
    """The task that a function runs as.

    Attributes:
        task: The worker SDK's view of the task.
        planned: The sub-tasks that the function has submitted so far.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.planned: list[Planned] = []
        self._prefix = ""
        self._numbers = itertools.count()

    @property
    def session_id(self) -> str:
        """The id of the session that the task belongs to."""
        return self.task.session_id

    @property
    def task_id(self) -> str:
        """The task's id, the same in all attempts."""
        return self.task.task_id.partition("###")[0]

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 0."""
        return self.task.attempt

    @property
    def options(self) -> Mapping[str, str]:
        """The free map of the task's options."""
        return self.task.options

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is cancelled, timed out or lost; nothing that the function still does counts then."""
        return self.task.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled if the attempt is cancelled; call this now and then in a long computation."""
        self.task.raise_if_cancelled()

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Wait until the attempt is cancelled, and return whether it is; see ``Task.wait_cancelled``."""
        return self.task.wait_cancelled(timeout)

    @property
    def log(self) -> logging.Logger:
        """A logger whose records go into the output of this attempt; see ``future.logs()``."""
        return self.task.log

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far this task has come: shown in the progress bars of those who wait for it; see ``Task.progress``."""
        self.task.progress(fraction, text)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred:
        """Have a function run as a sub-task once this task has ended, and return its future.

        Args:
            function: The function; arguments may be futures of other sub-tasks, at any depth.
            kwargs: Arguments of the function, and options as for ``Cluster.submit``.

        Raises:
            NotPicklableError: the function or an argument cannot be sent.
        """
        call, said = Call.of(function, args, kwargs, self.session_id)
        if said.unique_key is not None:
            raise TypeError("a sub-task takes no unique_key: it is created once, when its parent is committed")
        if not self._prefix:
            self._prefix = secrets.token_hex(10)
        deferred = Deferred(f"{self._prefix}-{next(self._numbers)}", self.session_id, call.name)
        self.planned.append(Planned(deferred, call, said.options))
        return deferred

    def has_submitted(self, deferred: Deferred) -> bool:
        """Return whether this attempt has submitted the sub-task of a future."""
        return bool(self._prefix) and deferred.key.startswith(f"{self._prefix}-")

    def map(self, function: Callable[..., Any], /, *iterables: Iterable[Any], **options: Any) -> list[Deferred]:
        """Submit one sub-task for each item, as ``submit`` does."""
        return [self.submit(function, *args, **options) for args in zip(*iterables, strict=False)]


_current: ContextVar[TaskContext] = ContextVar("ripieno_task")


def current() -> TaskContext:
    """Return the task that the calling function runs as.

    Raises:
        FutureMisuseError: the function was called directly, not as a task.
    """
    try:
        return _current.get()
    except LookupError:
        raise FutureMisuseError("there is no current task here: the function was not run by a worker") from None


def is_in_task() -> bool:
    """Return whether the caller runs as a task."""
    return _current.get(None) is not None


def run_as(context: TaskContext, function: Callable[[], Any]) -> Any:
    """Call a function with ``context`` as its current task."""
    token = _current.set(context)
    try:
        return function()
    finally:
        _current.reset(token)
