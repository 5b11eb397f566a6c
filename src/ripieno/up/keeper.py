"""Restarting processes that died."""

import asyncio
from typing import Protocol

import structlog

from ripieno.up.errors import UpError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
#: After a run of this many seconds a service counts as healthy: its next restart comes after the shortest pause.
STEADY_S = 10.0
#: Seconds between two log lines that a service cannot be started again.
TELL_EVERY_S = 60.0

log = structlog.get_logger(__name__)


class Service(Protocol):
    """A service that runs until it dies, and can be started again."""

    name: str

    async def start(self) -> None:
        """Start the service and return when it serves; raises UpError if it fails to."""

    async def wait(self) -> str:
        """Wait until the service ends; return in words how it ended."""

    async def discard(self) -> None:
        """Clear away what is left of a service that died, so that ``start`` begins anew."""

    async def stop(self, hurry: asyncio.Event) -> None:
        """Let the service drain and end; once ``hurry`` is set, end it without draining."""


async def keep_running(service: Service, serves: asyncio.Event) -> None:
    """Start ``service``, and start it again whenever it dies (UP-2), until cancelled.

    Args:
        service: What to run.
        serves: Set once the service served for the first time.

    Raises:
        UpError: if the very first start failed. Later failures are logged and the start is tried again.
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
    """Try to start a service until it serves; return the pause before its next restart, in seconds.

    The reason of a failed start is logged at once, and again each minute while failures last.
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
