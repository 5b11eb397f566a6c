"""Handlers that treat their process as everyday code does: the payload names what to do."""

import asyncio
import concurrent.futures
import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ripieno.worker import AsyncTask, Task


def square(number: int) -> int:
    return number * number


def handle(task: Task) -> bytes:
    what, _, argument = task.payload.decode().partition(" ")
    return str(WAYS[what](task, argument)).encode()


async def handle_async(task: AsyncTask) -> bytes:
    what, _, argument = task.payload.decode().partition(" ")
    await asyncio.sleep(0)
    return str(WAYS[what](task, argument)).encode()


def _pool(_task: object, method: str) -> int:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return sum(pool.map(square, range(10)))


def _executor(_task: object, method: str) -> int:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return sum(executor.map(square, range(10)))


def _given_up(_task: object, method: str) -> str:
    """A pool whose work does not end is terminated, by SIGTERM."""
    with multiprocessing.get_context(method).Pool(1) as pool, contextlib.suppress(multiprocessing.TimeoutError):
        pool.apply_async(time.sleep, (600,)).get(timeout=0.3)
    return "gave up"


def _terminated(_task: object, method: str) -> int | None:
    context: Any = multiprocessing.get_context(method)
    process: multiprocessing.Process = context.Process(target=time.sleep, args=(600,))
    process.start()
    time.sleep(0.2)
    process.terminate()
    process.join(10)
    return process.exitcode


def _forked(task: Task | AsyncTask, how: str) -> object:
    """A bare fork whose child ends as it is told to; its exit status, as the worker sees it."""
    pid = os.fork()
    if pid == 0:
        if how == "exits":
            sys.exit(7)
        if how == "raises":
            raise ValueError("in the child")
        if how == "interrupted":
            raise KeyboardInterrupt
        if how == "signals":
            os.kill(os.getpid(), signal.SIGTERM)
        if how == "sends":
            assert isinstance(task, Task)
            task.send_result("r", b"from the child")
        return "returned in the child"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _left(_task: object, _argument: str) -> int:
    """A child that goes on when the handler returns; its number."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return pid


def _streams_closed(_task: object, _argument: str) -> str:
    for number in (0, 1, 2):
        os.close(number)
    return "closed"


def _printed(_task: object, _argument: str) -> str:
    print("something", flush=True)
    print("something else", file=sys.stderr, flush=True)
    return str([str(Path(f"/proc/self/fd/{number}").readlink()).partition(":")[0] for number in (1, 2)])


def _moved(_task: object, argument: str) -> str:
    Path(argument).mkdir()
    os.chdir(argument)
    Path(argument).rmdir()
    os.umask(0o777)
    return "moved"


def _place(_task: object, _argument: str) -> str:
    umask = os.umask(0)
    os.umask(umask)
    return f"{Path.cwd()} {umask}"


def _signals_taken(_task: object, _argument: str) -> str:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return "taken"


def _threads_left(_task: object, _argument: str) -> str:
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return "left"


def _own_loop(_task: object, argument: str) -> object:
    if argument == "thread":
        with concurrent.futures.ThreadPoolExecutor() as executor:
            return executor.submit(lambda: asyncio.run(asyncio.sleep(0.01, "slept"))).result()
    return asyncio.run(asyncio.sleep(0.01, "slept"))


def _shell(_task: object, argument: str) -> str:
    return subprocess.run(argument, shell=True, check=True, capture_output=True, text=True).stdout.strip()


def _text_streams(_task: object, _argument: str) -> str:
    sys.stdout = sys.stderr = io.StringIO()
    return "replaced"


def _ended(_task: object, how: str) -> None:
    print("the last words", flush=how != "unflushed")
    if how == "abort":
        os.abort()
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(3)


WAYS: dict[str, Callable[..., object]] = {
    "pool": _pool,
    "executor": _executor,
    "given-up": _given_up,
    "terminated": _terminated,
    "forked": _forked,
    "left": _left,
    "streams-closed": _streams_closed,
    "printed": _printed,
    "moved": _moved,
    "place": _place,
    "signals-taken": _signals_taken,
    "threads-left": _threads_left,
    "own-loop": _own_loop,
    "shell": _shell,
    "text-streams": _text_streams,
    "ended": _ended,
    "pid": lambda *_: os.getpid(),
}
