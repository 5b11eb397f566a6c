"""A worker that prepares itself: the variable PREPARED_NOTES names a file in which it writes what it does, in order."""

import asyncio
import os
import threading
from pathlib import Path

from ripieno.worker import AsyncTask, Task, shutdown, startup

_notes = Path(os.environ["PREPARED_NOTES"])
_fails = os.environ.get("PREPARED_FAILS", "")
_loops: list[asyncio.AbstractEventLoop] = []


def note(text: str) -> None:
    with _notes.open("a") as notes:
        notes.write(f"{text}\n")


@startup
def first() -> str:
    note(f"first {threading.current_thread() is threading.main_thread()}")
    os.chdir(_notes.parent)
    print("printed by the start-up", flush=True)
    return "ignored"


@startup
async def second() -> None:
    await asyncio.sleep(0)
    _loops.append(asyncio.get_running_loop())
    if _fails and not Path(_fails).exists():
        raise ValueError("there is no model")
    note("second")


@shutdown
def last() -> None:
    note("last")


@shutdown
async def last_but_one() -> None:
    await asyncio.sleep(0)
    note("last but one")
    raise ValueError("it cannot be put away")


def handle(task: Task) -> bytes:
    note("task")
    return str(Path.cwd()).encode()


async def handle_async(task: AsyncTask) -> bytes:
    note(f"task {asyncio.get_running_loop() is _loops[0]}")
    return str(Path.cwd()).encode()
