"""What says no during a soak: each fault is prepared, begins, lasts, and is undone."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial

import grpc.aio

from ripieno.client import AsyncClient, TaskDefinition
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from soak.stage import NOWHERE, ROLES, Stage, signal_all

_STOPPED_S = 15.0
_AWAY_S = 20.0
#: What a fault needs is there; whoever was held up by that is through.
_SETTLE_S = 5.0
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]


Begins = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that says no.

    Attributes:
        happens: Prepares it, calls its second argument as it begins, and returns when it is undone.
        of_one_caller: Whether the others must hardly notice (SOAK-3).
        spares_attempts: Whether it must not cost an attempt (SOAK-2).
    """

    name: str
    happens: Callable[[Stage, Begins], Awaitable[None]]
    of_one_caller: bool = False
    spares_attempts: bool = False


async def _stopped(role: str, stage: Stage, begins: Begins) -> None:
    """All processes of a role do nothing for a while (a database that is silent, among them)."""
    processes = stage.processes(role)
    begins()
    signal_all(processes, signal.SIGSTOP)
    try:
        await asyncio.sleep(_STOPPED_S)
    finally:
        signal_all(processes, signal.SIGCONT)


async def _killed(role: str, stage: Stage, begins: Begins) -> None:
    """A process ends without a word."""
    begins()
    signal_all(stage.processes(role)[:1], signal.SIGKILL)
    if role in stage.second:
        await stage.second[role].wait()
        await stage.start_second(role)


async def _read_only(stage: Stage, begins: Begins) -> None:
    """The database takes no writes, as after a fail-over to a stand-by."""
    async with stage.connection() as connection:
        begins()
        await connection.execute("alter system set default_transaction_read_only = on")
        await connection.execute("select pg_reload_conf()")
        try:
            await asyncio.sleep(_AWAY_S)
        finally:
            await connection.execute("alter system reset default_transaction_read_only")
            await connection.execute("select pg_reload_conf()")


async def _disk_full(stage: Stage, begins: Begins) -> None:
    """The file system of the data directory has no room."""
    assert stage.disk is not None, "this fault is left out where there is no small disk"
    filler = stage.disk / "filler"
    begins()
    try:
        async with asyncio.timeout(_AWAY_S):
            while True:
                # Again and again: the cluster makes room itself where it can.
                await asyncio.to_thread(_fill, filler)
                await asyncio.sleep(0.2)
    except TimeoutError:
        return
    finally:
        filler.unlink(missing_ok=True)


def _fill(filler: object) -> None:
    with open(os.fspath(str(filler)), "ab", buffering=0) as file, suppress(OSError):  # noqa: PTH123
        while True:
            file.write(bytes(1 << 20))


async def _slow_readers(stage: Stage, begins: Begins) -> None:
    """Clients that ask for 160 MB of results and read nothing."""
    async with AsyncClient(stage.up.address, patience=300) as client, AsyncExitStack() as stack:
        session = await client.session(max_retries=50)
        tasks = await session.submit_many([b"echo " + bytes(40_000)] * 4_000)
        await session.wait(timeout=300)
        await asyncio.sleep(_SETTLE_S)  # others have waited behind these tasks
        begins()
        for _ in range(4):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(stage.up.address, options=_OPTIONS))
            call = results_pb2_grpc.ResultsStub(channel).Follow()
            keys = [task.key for task in tasks]
            await call.write(results_pb2.FollowRequest(session_id=session.id, keys=keys))
            stack.callback(call.cancel)
        await asyncio.sleep(_AWAY_S)


async def _large_calls(stage: Stage, begins: Begins) -> None:
    """Eight callers at a time send 30 MiB each, where nobody works."""
    async with AsyncClient(stage.up.address, patience=300) as client:
        session = await client.session(partition=NOWHERE)
        await _in_a_process("soak.large_calls", stage, session.id, begins)
        await session.cancel()


async def _in_a_process(module: str, stage: Stage, session_id: str, begins: Begins) -> None:
    """Run a caller in a process of its own, to its end; what it asks for begins once it is ready."""
    arguments = (sys.executable, "-m", module, stage.up.address, session_id)
    caller = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert caller.stdin is not None
    assert caller.stdout is not None
    try:
        assert await caller.stdout.readline() == b"ready\n"
        await asyncio.sleep(_SETTLE_S)
        begins()
        caller.stdin.write(b"\n")
        assert await caller.wait() == 0, "it was answered otherwise than that it is too much"
    finally:
        if caller.returncode is None:
            caller.kill()
            await caller.wait()


async def _great_cancellation(stage: Stage, begins: Begins) -> None:
    """A session of 500,000 tasks is cancelled."""
    async with AsyncClient(stage.up.address, patience=300) as client:
        session = await client.session(partition=NOWHERE)
        for _ in range(10):
            await session.submit_many([b""] * 50_000)
        await asyncio.sleep(_SETTLE_S)
        begins()
        await session.cancel()


async def _aborted_chain(stage: Stage, begins: Begins) -> None:
    """The first of a chain of 50,000 tasks fails."""
    async with AsyncClient(stage.up.address, patience=300) as client:
        session = await client.session(max_retries=50)
        first = f"{session.id}/0"
        await session.submit_many(
            TaskDefinition(b"total 1", [f"{session.id}/{n}"], [f"{session.id}/{n - 1}"]) for n in range(1, 50_001)
        )
        await asyncio.sleep(_SETTLE_S)
        begins()
        await session.submit(b"hopeless", expected_outputs=[first])
        await session.wait(timeout=300)


async def _great_list(stage: Stage, begins: Begins) -> None:
    """Somebody lists and follows far more than is good for anyone."""
    async with AsyncClient(stage.up.address, patience=300) as client:
        session = await client.session(partition=NOWHERE)
        for _ in range(4):
            await session.submit_many([b""] * 50_000)
        await _in_a_process("soak.long_lists", stage, session.id, begins)
        await session.cancel()


def faults(stage: Stage) -> list[Fault]:
    """All of them."""
    found = [Fault(f"{role} stopped for 15 s", partial(_stopped, role), spares_attempts=True) for role in ROLES]
    found += [Fault(f"{role} killed", partial(_killed, role)) for role in ROLES]
    found += [
        Fault("database read-only", _read_only, spares_attempts=True),
        Fault("slow readers", _slow_readers, of_one_caller=True, spares_attempts=True),
        Fault("calls of 30 MiB", _large_calls, of_one_caller=True, spares_attempts=True),
        Fault("cancellation of 500,000 tasks", _great_cancellation, of_one_caller=True, spares_attempts=True),
        Fault("chain of 50,000 aborted", _aborted_chain, of_one_caller=True, spares_attempts=True),
        Fault("long lists", _great_list, of_one_caller=True, spares_attempts=True),
    ]
    if stage.disk is not None:
        found.append(Fault("disk full", _disk_full, spares_attempts=True))
    return found
