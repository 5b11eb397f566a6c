"""The process that started us, when that process is ``ripieno up`` (see ``ripieno.up.tie``)."""

import asyncio
import os
from collections.abc import Callable

from ripieno.up.tie import READY, TIE_VARIABLE


class Parent:
    """What the parent says. Without such a parent we begin at once, and it never goes."""

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
        """Take the tie over; processes that we start do not see it."""
        named = os.environ.pop(TIE_VARIABLE, "")
        return cls(int(named) if named.isdigit() else None)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Listen from now on; ``on_gone`` is called once, when the parent has ended."""
        if self._descriptor is not None:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read, self._descriptor, on_gone)

    async def permission(self) -> None:
        """Wait until we may begin (or the parent is gone: then we are to stop anyway)."""
        await self._may_begin.wait()

    def say_ready(self) -> bool:
        """Tell the parent that we serve; False where there is none."""
        if self._descriptor is None:
            return False
        try:
            os.write(self._descriptor, READY)
        except BrokenPipeError:
            return True  # it is gone; `on_gone` is on its way
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
