"""Keeps one slot served: gets a worker, chooses its lane, and replaces it when it is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from contextlib import suppress

import grpc.aio

from ripieno.agent.data.scratch import SocketDirectory
from ripieno.agent.scheduling.complaints import Complaints
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.slots import Slot
from ripieno.agent.transport.channels import reraise_own_cancellation, worker_channel
from ripieno.agent.uplink.link import Link
from ripieno.agent.workers import health
from ripieno.agent.workers.batch_lane import BatchLane
from ripieno.agent.workers.exchange import Exchange
from ripieno.agent.workers.lanes import LaneBrokenError, is_served
from ripieno.agent.workers.output import keep_last_output
from ripieno.agent.workers.process_lane import ProcessLane
from ripieno.agent.workers.supervisor import WorkerProcess, Workshop, last_words
from ripieno.domain.output import AttemptOutput

_log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 5.0
#: A worker that served and lived this long is replaced without delay.
LIVED_S = 5.0
#: How long to wait for the end of a process after its connection broke.
EXIT_S = 0.5
#: A worker that does not serve after this long is logged, and still waited for.
SILENT_S = 5.0


class Keeper:
    """Keeps one slot served, by a worker that is attached or by processes that the agent spawns."""

    def __init__(
        self, slot: Slot, dispatcher: Dispatcher, exchange: Exchange, link: Link, complaints: Complaints
    ) -> None:
        self._slot = slot
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._link = link
        self._complaints = complaints

    async def attach(self, address: str) -> None:
        """Serve the slot with a worker that the agent did not start. Runs until it is cancelled."""
        backoff_s = 0.0
        while True:
            started_at = time.monotonic()
            served = await self._serve(
                address, None, f"nothing serves at {address}, where a worker is attached; waiting for it"
            )
            backoff_s = _next_backoff(backoff_s, started_at, served=served)
            await asyncio.sleep(backoff_s or FIRST_BACKOFF_S)

    async def spawn(self, workshop: Workshop, sockets: SocketDirectory, number: int) -> None:
        """Serve the slot with processes that the agent starts, one after the other. Runs until it is cancelled.

        A process that cannot be started counts as a worker that was lost: the next try follows with back-off.
        """
        command = shlex.join(workshop.command)
        backoff_s, generation = 0.0, 0
        while True:
            generation += 1
            started_at, served = time.monotonic(), False
            try:
                process = WorkerProcess.start(workshop, sockets.address(number, generation), number)
            except OSError as error:
                self._complaints.say(
                    self._slot.name, f"no process can be started for it: {os.strerror(error.errno or 0)}"
                )
            else:
                try:
                    served = await self._serve(
                        process.address,
                        process,
                        f"`{command}` has run for {SILENT_S:g} s and does not serve yet; waiting for it."
                        " A worker listens at the address in RIPIENO_WORKER_ADDRESS ({address} in its command)",
                    )
                finally:
                    await process.stop()
            backoff_s = _next_backoff(backoff_s, started_at, served=served)
            await asyncio.sleep(backoff_s)

    async def _serve(self, address: str, process: WorkerProcess | None, silence: str) -> bool:
        """Serve the slot with one worker until it is lost, and return whether the worker ever served.

        ``silence`` is logged while it does not.
        """
        blameless, detail, served = True, "", False
        ours: AttemptOutput | None = None
        try:
            async with worker_channel(address) as channel, asyncio.TaskGroup() as tasks:
                if process is not None:
                    tasks.create_task(_until_ended(process))
                await self._until_serving(channel, silence)
                served = True
                await self._run_lane(address, channel, process)
        except* LaneBrokenError as group:
            error = _first(group)
            blameless, detail = error.blameless, str(error)
        except* Exception as group:  # noqa: BLE001 - a bug in one slot must not end the agent
            _log.error("%s: serving with its worker failed by a bug; it begins anew", self._slot.name, exc_info=group)
            blameless, detail = False, "this agent has failed by a bug; its log has the story"
        reraise_own_cancellation()
        if process is not None:
            # The broken stream is often noticed first, but how the process ended tells more.
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_S):
                    detail = await process.ended()
            ours = keep_last_output(self._slot, process.printed)
        self._slot.printed = None
        self._complaints.say(self._slot.name, detail if served or process is None else f"it never served: {detail}")
        if process is not None and process.how_ended:
            # An attempt's reason has what that attempt printed alone: what came before is that of others.
            detail = process.how_ended + (last_words(ours.stdout + ours.stderr) if ours is not None else "")
        self._dispatcher.down(self._slot, detail, blameless=blameless)
        return served

    async def _until_serving(self, channel: grpc.aio.Channel, silence: str) -> None:
        """Wait until the worker serves; log once that it does not, and once why if that is known only later."""
        heard, told = "", False

        def hear(why: str) -> None:
            nonlocal heard
            unexplained, heard = told and not heard, why
            if unexplained:
                tell()

        def tell() -> None:
            nonlocal told
            told = True
            self._complaints.say(self._slot.name, f"{silence}; {heard}" if heard else silence)

        telling = asyncio.get_running_loop().call_later(SILENT_S, tell)
        try:
            await health.until_serving(channel, hear)
        finally:
            telling.cancel()

    async def _run_lane(self, address: str, channel: grpc.aio.Channel, process: WorkerProcess | None) -> None:
        kill, printed = (process.kill, process.printed) if process is not None else (_not_ours, None)
        self._slot.printed, self._slot.output_since = printed, None
        lane: BatchLane | ProcessLane
        if await is_served(channel):
            lane = BatchLane(address, self._slot, self._dispatcher, self._exchange, self._link, kill, printed)
        else:
            lane = ProcessLane(
                address,
                channel,
                self._slot,
                self._dispatcher,
                self._exchange,
                self._link,
                kill,
                printed,
                spawned=process is not None,
            )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(health.watch(channel, self._dispatcher, self._slot, lane, self._paused))
            await lane.run()

    def _paused(self, why: str) -> None:
        self._complaints.say(self._slot.name, f"it serves no more, and is given nothing until it does: {why}")


def _next_backoff(backoff_s: float, started_at: float, *, served: bool) -> float:
    """How many seconds to wait before the next worker of a slot; 0 after one that served and lived for ``LIVED_S``."""
    if served and time.monotonic() - started_at > LIVED_S:
        return 0.0
    return min(max(2 * backoff_s, FIRST_BACKOFF_S), LAST_BACKOFF_S)


async def _until_ended(process: WorkerProcess) -> None:
    raise LaneBrokenError(await process.ended())


def _not_ours(reason: str) -> bool:
    return False


def _first(group: BaseExceptionGroup[LaneBrokenError]) -> LaneBrokenError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, LaneBrokenError)
    return error
