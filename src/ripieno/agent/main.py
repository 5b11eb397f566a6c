"""Builds one agent from its parts and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

from ripieno.agent.attempts.attempt import Attempt
from ripieno.agent.data.disk import Scratch
from ripieno.agent.data.inputs import Inputs
from ripieno.agent.data.scratch import SocketDirectory, locked_directory
from ripieno.agent.data.spool import Spool
from ripieno.agent.scheduling.complaints import Complaints
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.scheduling.slots import NAME_BYTES, Slot
from ripieno.agent.transport.threads import Threads
from ripieno.agent.uplink.link import Link
from ripieno.agent.uplink.uplink import Uplink
from ripieno.agent.workers.exchange import Exchange
from ripieno.agent.workers.keeper import Keeper
from ripieno.agent.workers.live_output import LiveOutputs
from ripieno.agent.workers.live_progress import LiveProgress
from ripieno.agent.workers.supervisor import Workshop, worker_command
from ripieno.background import Loop, Setback
from ripieno.config import AgentSettings
from ripieno.domain.texts import reason

#: Seconds between two calls of ``Dispatcher.tick``.
TICK_S = 0.01
#: A tick that is late by this much means that the process or its machine was stopped: no attempt is charged that time.
STOOD_STILL_S = 0.5
#: Seconds between two calls of ``Dispatcher.ask_anew``.
ASK_ANEW_S = 30.0
#: How long the last outcomes may take to be settled when draining.
SETTLE_S = 5.0


class Agent:
    """All parts of one agent, connected with each other.

    Args:
        settings: The agent's settings.
        scratch: Directory for large data and sockets, which no other agent uses.
    """

    def __init__(self, settings: AgentSettings, scratch: Path) -> None:
        names = settings.attach or [str(number) for number in range(settings.slots)]
        self.settings = settings
        self.slots = [Slot(reason(f"{settings.name}/{name}", NAME_BYTES)) for name in names]
        self.outbox = Outbox()
        self.link = Link()
        self.dispatcher = Dispatcher(self.outbox, self.slots, settings.cancel_grace_s)
        self.scratch = Scratch(scratch, self.dispatcher.becomes_fit)
        self.inputs = Inputs(self.dispatcher, self.link, Spool(self.scratch, self.link), settings.cache_bytes)
        self.exchange = Exchange(self.dispatcher, self.link, self.inputs)
        self.uplink = Uplink(settings, self.dispatcher, self.outbox, self.link)
        self.live_outputs = LiveOutputs(self.slots, self.outbox)
        self.live_progress = LiveProgress(self.slots, self.outbox)
        self.sockets = SocketDirectory(scratch)
        self.dispatcher.prepare = self.inputs.prepare
        self.dispatcher.dispose = self._dispose
        self.uplink.on_settled = self.inputs.produced.settled
        self.uplink.on_refused = self.inputs.produced.refused
        self.uplink.on_followed = self.live_outputs.follow
        self.uplink.on_progress_followed = self.live_progress.follow

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Work until ``stop`` is set, then drain."""
        welcomed = asyncio.Event()
        self.uplink.on_welcome = welcomed.set
        parts = [self._announce(welcomed, on_ready), self.inputs.run(), self.exchange.run()]
        parts += [self.scratch.run(), self._tick(), self.live_outputs.run(), self.live_progress.run()]
        parts.append(Loop("asking for work anew", self._ask_anew, every_s=ASK_ANEW_S).run())
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(part) for part in [*parts, *self._keepers(), self.uplink.run()]]
                await stop.wait()
                await self._drain()
                for task in running:
                    task.cancel()
        finally:
            await self.link.close()
            self.sockets.remove()

    def _keepers(self) -> list[Coroutine[None, None, None]]:
        settings = self.settings
        complaints = Complaints()
        keepers = [Keeper(slot, self.dispatcher, self.exchange, self.link, complaints) for slot in self.slots]
        if settings.attach:
            return [keeper.attach(address) for keeper, address in zip(keepers, settings.attach, strict=True)]
        workshop = Workshop(
            worker_command(settings.worker),
            logs=settings.worker_logs,
            pass_environment=settings.pass_environment,
            open_files=settings.worker_open_files,
            output_bytes=settings.output_bytes,
        )
        return [keeper.spawn(workshop, self.sockets, number) for number, keeper in enumerate(keepers)]

    async def _announce(self, welcomed: asyncio.Event, on_ready: Callable[[], None]) -> None:
        await welcomed.wait()
        on_ready()

    async def _tick(self) -> None:
        setback = Setback("looking after attempts by the clock")
        while True:
            await self.dispatcher.busy.wait()
            try:
                await self._tick_once()
            except Exception as error:  # noqa: BLE001 - after a bug the attempts go on, and so does the clock
                await asyncio.sleep(setback.note(error))
            else:
                setback.over()

    async def _ask_anew(self) -> None:
        self.dispatcher.ask_anew()

    async def _tick_once(self) -> None:
        asleep_at = time.monotonic()
        await asyncio.sleep(TICK_S)
        now = time.monotonic()
        if (late_s := now - asleep_at - TICK_S) > STOOD_STILL_S:
            self.dispatcher.stood_still(late_s)
            await asyncio.sleep(TICK_S)  # messages that arrived meanwhile are processed first
            now = time.monotonic()
        self.inputs.advance()
        self.dispatcher.tick(now)

    async def _drain(self) -> None:
        """Let running attempts finish, give back the others, and wait until the outcomes are settled."""
        dispatcher, settings = self.dispatcher, self.settings
        dispatcher.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_s):
                await dispatcher.idle.wait()
        dispatcher.interrupt_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * settings.cancel_grace_s + 1):
                await dispatcher.idle.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.outbox.emptied()
        await self.uplink.close()

    def _dispose(self, attempt: Attempt) -> None:
        self.exchange.abort(attempt)
        self.inputs.dispose(attempt)


async def run_agent(settings: AgentSettings, *, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Run an agent until ``stop`` is set, then drain it and return.

    While draining, running attempts have ``settings.drain_s`` to finish. Those that do not,
    and all that had not begun, are given back without using up an attempt.

    Args:
        settings: The agent's settings.
        stop: Set by the caller to stop the agent.
        on_ready: Called once, when a control plane has welcomed the agent. Workers need
            not be up by then.

    Raises:
        OSError: if no scratch directory can be made, or no thread can be started.
    """
    asyncio.get_running_loop().set_default_executor(Threads())
    if settings.worker_logs is not None:
        settings.worker_logs.mkdir(parents=True, exist_ok=True)
    # The agent makes a directory of its own, because several agents may share one scratch.
    with locked_directory(settings.scratch) as scratch:
        await Agent(settings, scratch).run(stop, on_ready)
