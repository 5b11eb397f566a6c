"""Running a control plane or an agent in the foreground: event loop, signals, ready line, exit code."""

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import click

from ripieno.cli.process.inherited import stop_signals
from ripieno.cli.process.parent import Parent
from ripieno.cli.terms.exit_codes import ExitCode
from ripieno.domain.errors import RipienoError

#: Seconds to drain after ``up`` was killed: nobody waits for us then, and the next ``up`` wants our port.
ORPHAN_DRAIN_S = 2.0
#: Seconds after which an orphan exits at once, because even the hurried end takes too long.
ORPHAN_LIMIT_S = 4.0

#: Thresholds of the garbage collector. Messages of thousands of tasks make many objects that die at once:
#: looking for cycles among them every 700 took 5 % of all processor time under load (measured).
_GC_THRESHOLDS = (50_000, 20, 50)

#: Freed memory is kept for the next messages up to this sum, and blocks up to this size are taken from the heap.
#: By default glibc gives memory back at once, and each MiB that is sent costs 1.5 ms of page faults: large
#: results came at 360 MB/s instead of 1,400 (measured; the peak is the same). Larger blocks go back at
#: once: with them in the heap, calls of 30 MiB, one after the other, took 30 MiB more at the most.
_KEPT_BYTES, _HEAP_BLOCK_BYTES = 64 * 1024 * 1024, 4 * 1024 * 1024
#: Number of heaps: gRPC's threads would have one each, and memory freed in one is no use to the others. After
#: calls of 30 MiB a replica under load stayed at 91 MiB, and at 67 with one heap (62 before them, measured).
_HEAPS = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h

_MOST_OPEN_FILES = 1024 * 1024

#: A server: called with the event that asks it to drain, and a function to call with its ready line.
Server = Callable[[asyncio.Event, Callable[[str], None]], Coroutine[Any, Any, None]]


def serve(server: Server) -> None:
    """Run ``server`` until it returns; the server has to drain once its event is set.

    SIGINT, SIGTERM, SIGHUP (unless under ``nohup``) and the end of the parent set the event; a second
    signal cancels the server instead of letting it drain.

    Raises:
        click.ClickException: if the server ended in an error that its user can act on.
        SystemExit: with code 130 if the server was cancelled.
    """
    if os.name != "posix":
        raise click.ClickException("servers run on Linux and macOS; on Windows the SDKs and the look-ups work")
    raise_open_files()
    _keep_memory()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_stopped(server))
    except RipienoError as error:
        raise click.ClickException(error.detail) from error
    except asyncio.CancelledError:
        raise SystemExit(ExitCode.INTERRUPTED) from None


async def _until_stopped(server: Server) -> None:
    loop, stop, parent = asyncio.get_running_loop(), asyncio.Event(), Parent.from_environment()
    running = asyncio.current_task()
    assert running is not None

    def on_signal() -> None:
        if stop.is_set():
            running.cancel()
        stop.set()

    def on_orphaned() -> None:
        stop.set()
        loop.call_later(ORPHAN_DRAIN_S, running.cancel)
        loop.call_later(ORPHAN_LIMIT_S, os._exit, 1)

    def on_ready(line: str) -> None:
        gc.collect()
        gc.freeze()  # objects loaded by now live as long as the process: do not search them for cycles
        gc.set_threshold(*_GC_THRESHOLDS)
        if not parent.say_ready():
            click.echo(line)  # which flushes: the process that started us may wait for the line

    for number in stop_signals():
        loop.add_signal_handler(number, on_signal)
    parent.watch(on_orphaned)
    await _first_of(parent.permission(), stop.wait())
    if not stop.is_set():
        await server(stop, on_ready)


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def raise_open_files() -> tuple[int, int] | None:
    """Raise this process's limit of open files as far as allowed; return its soft and hard limit before.

    The soft limit, 1,024 as a rule, is for programs that use ``select``; each worker takes three
    descriptors, each client one.

    Returns:
        The limits before the call; None on a system without such limits.
    """
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft, hard


def _keep_memory() -> None:
    """Set the limits above in glibc's malloc; other C libraries have neither the call nor the need."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _HEAP_BLOCK_BYTES)
        mallopt(_M_ARENA_MAX, _HEAPS)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory, which handles more gRPC messages a second, or None if it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def prepare_grpc() -> None:
    """Set the variables that gRPC reads when it is first imported; call before that."""
    # With the event engine, each operation of a call passes through one thread more: a quarter of the
    # processor time of short calls, at either end (measured with grpcio 1.85).
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
