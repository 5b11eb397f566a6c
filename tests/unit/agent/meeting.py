"""A handler whose attempts meet each other in one process."""

import asyncio
import os

from ripieno.worker import AsyncTask

_meetings: dict[str, asyncio.Barrier] = {}


async def handle(task: AsyncTask) -> bytes:
    """Do what the payload says; with a number, once as many are here at the same time."""
    what, _, number = task.payload.decode().partition(" ")
    if number.isdecimal():
        await _meetings.setdefault(number, asyncio.Barrier(int(number))).wait()
    if what == "sleep":
        await asyncio.sleep(60)
    if what == "fail":
        raise ValueError("it fails")
    if what == "die":
        os._exit(3)
    return task.payload
