"""Running the processes of a cluster: which starts when, and the order in which they stop."""

import asyncio
from collections.abc import Callable, Sequence

from ripieno.domain.addresses import TcpAddress
from ripieno.up.directory import DataDirectory
from ripieno.up.errors import UpError
from ripieno.up.keeper import Service, keep_running
from ripieno.up.ports import check_port_is_free
from ripieno.up.services import Database, agent_child, control_child, embedded, prepared, start_log
from ripieno.up.settings import UpSettings


async def run_up(
    settings: UpSettings, *, stop: asyncio.Event, hurry: asyncio.Event, on_ready: Callable[[TcpAddress], None]
) -> None:
    """Run the cluster until ``stop`` is set, then drain and stop it (UP-4).

    Args:
        settings: What to run.
        stop: Set by the caller to end the cluster.
        hurry: Set by the caller to give up running tasks instead of waiting for them. Nothing is
            lost by that: the tasks run again at the next start.
        on_ready: Called once, with the address it listens at, when the cluster serves.

    Raises:
        UpError: if the cluster could not start; the processes that had started are stopped again.
    """
    directory = DataDirectory(settings.data)
    with directory.held():
        try:
            start_log(directory, settings.logs)
            await directory.let_orphans_end("control", "agent")
            address = check_port_is_free(settings.listen)
            server = None if settings.database else embedded(directory)
            url = settings.database or await prepared(server)
        except UpError:
            directory.forget_if_new()  # no cluster has run in it
            raise
        control = control_child(directory, settings, address, url)
        agent = agent_child(directory, settings, address)
        # All three processes start at once: interpreters take longer to start than PostgreSQL.
        services: list[Service] = [control, agent] if server is None else [Database(server), control, agent]
        try:
            await control.launch()
            await agent.launch()
            await _supervise(services, stop, lambda: on_ready(address))
        finally:
            for service in reversed(services):
                await service.stop(hurry)


async def _supervise(services: Sequence[Service], stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Start each service once the one before it serves, and keep all running until ``stop``."""
    serving = [asyncio.Event() for _ in services]
    try:
        async with asyncio.TaskGroup() as group:
            keepers = [
                group.create_task(_keep_after(before, service, serves))
                for before, service, serves in zip([None, *serving], services, serving, strict=False)
            ]
            if await _first(serving[-1], stop):
                on_ready()
                await stop.wait()
            for keeper in keepers:
                keeper.cancel()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


async def _keep_after(before: asyncio.Event | None, service: Service, serves: asyncio.Event) -> None:
    if before is not None:
        await before.wait()
    await keep_running(service, serves)


async def _first(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either event; return whether it was ``wanted``."""
    waits = [asyncio.ensure_future(event.wait()) for event in (wanted, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in waits:
            waiting.cancel()
    return wanted.is_set()
