"""The connection to the process that started us, if that is ``ripieno up`` (see ``ripieno.up.tie``)."""

import asyncio
import os
from collections.abc import Callable

from ripieno.up.tie import READY, TIE_VARIABLE


class Parent:
    """The tie to the parent process. Without a parent that is ``up``, we may begin at once and no end is reported.

    Args:
        descriptor: Our end of the tie's pair of sockets; None without such a parent.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._may_begin = asyncio.Event()
        if descriptor is None:
            self._may_begin.set()
        else:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    @classmethod
    def from_environment(cls) -> "Parent":
        """Take the tie from the environment and remove it there, so that processes we start do not see it."""
        named = os.environ.pop(TIE_VARIABLE, "")
        return cls(int(named) if named.isdigit() else None)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Listen to the parent from now on; ``on_gone`` is called once, when the parent has ended."""
        if self._descriptor is not None:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read, self._descriptor, on_gone)

    async def permission(self) -> None:
        """Wait until the parent lets us begin, or has ended (then we are to stop anyway)."""
        await self._may_begin.wait()

    def say_ready(self) -> bool:
        """Tell the parent that we serve; return False where there is none."""
        if self._descriptor is None:
            return False
        try:
            os.write(self._descriptor, READY)
        except BrokenPipeError:
            return True  # the parent has ended; `on_gone` is called next
        return True

    def _read(self, descriptor: int, on_gone: Callable[[], None]) -> None:
        try:
            said = os.read(descriptor, 64)
        except ConnectionResetError:
            said = b""
        self._may_begin.set()
        if not said:
            asyncio.get_running_loop().remove_reader(descriptor)
            on_gone()
