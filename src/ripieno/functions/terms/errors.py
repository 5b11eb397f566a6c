"""The errors of function tasks.

::

    RipienoError
     ├─ NotPicklableError     a function, an argument or a value cannot be sent
     ├─ RemoteError           a function raised what cannot be sent back; its text and traceback are here
     ├─ ClusterError          no cluster could be started or joined
     └─ FutureMisuseError     a future was used where it has no meaning, such as waited for inside a task
"""

from __future__ import annotations

from typing import Any

from ripieno.domain.errors import RipienoError


class NotPicklableError(RipienoError, TypeError):
    """Something cannot be sent to the cluster.

    Attributes:
        what: What it is, such as "argument 2 of f".
        why: What in it is at fault, and what to do.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} cannot be sent to the cluster: {why}")
        self.what = what
        self.why = why

    def __reduce__(self) -> Any:
        """Pickle as the two parts."""
        return type(self), (self.what, self.why)


class RemoteError(RipienoError):
    """A function raised an exception that could not be sent back, or its worker had none to send.

    Attributes:
        type_name: The name of the exception's class; empty where it is not known.
    """

    def __init__(self, text: str, type_name: str = "") -> None:
        super().__init__(text)
        self.type_name = type_name


class RemoteTraceback(Exception):  # noqa: N818 - shown as a cause, not raised
    """The traceback of an exception on the worker that raised it: the cause of the exception here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        """Return the traceback, set apart from what stands around it."""
        return f'\n"""\n{self.text}\n"""'


class ClusterError(RipienoError):
    """No cluster could be started or joined."""


class FutureMisuseError(RipienoError, RuntimeError):
    """A future was used where it has no meaning."""
