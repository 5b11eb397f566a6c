"""Restarting what died."""

import asyncio
from typing import Protocol

import structlog

from ripieno.up.errors import UpError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
#: Whoever ran this long was well; its next death starts with the shortest pause again.
STEADY_S = 10.0
#: How often it is told of a service that it cannot be started again.
TELL_EVERY_S = 60.0

log = structlog.get_logger(__name__)


class Service(Protocol):
    """Something that runs until it dies, and can be started again."""

    name: str

    async def start(self) -> None:
        """Start it and return when it serves; raises UpError when it does not."""

    async def wait(self) -> str:
        """Return, once it has ended, how it ended."""

    async def discard(self) -> None:
        """Clear away what is left of it, so that ``start`` begins anew."""

    async def stop(self, hurry: asyncio.Event) -> None:
        """Let it drain and end; once ``hurry`` is set, end it without draining."""


async def keep_running(service: Service, serves: asyncio.Event) -> None:
    """Start ``service``, and start it again whenever it dies (UP-2), until cancelled.

    Args:
        serves: Set once it served for the first time.

    Raises:
        UpError: its very first start failed. Later failures are logged and tried again.
    """
    await service.start()
    serves.set()
    pause_s = FIRST_PAUSE_S
    while True:
        began = asyncio.get_running_loop().time()
        how = await service.wait()
        if asyncio.get_running_loop().time() - began > STEADY_S:
            pause_s = FIRST_PAUSE_S
        log.warning("process_died", process=service.name, how=how, restart_in_s=pause_s)
        pause_s = await _start_again(service, pause_s)


async def _start_again(service: Service, pause_s: float) -> float:
    """Try to start a service until it serves; return the pause before the next start of it.

    Why it does not start is told once, and again each minute while that lasts.
    """
    clock = asyncio.get_running_loop().time
    tries, quiet_until = 0, 0.0
    while True:
        await service.discard()
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        try:
            await service.start()
        except UpError as error:
            tries += 1
            if clock() >= quiet_until:
                quiet_until = clock() + TELL_EVERY_S
                log.warning("process_not_restarted", process=service.name, why=str(error), tries=tries)
        else:
            if tries:
                log.warning("process_restarted", process=service.name, tries=tries + 1)
            return pause_s
