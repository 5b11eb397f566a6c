"""A process of its own that lists the tasks of a session: what reading a million ids takes is not the load's time.

``python -m soak.long_lists ADDRESS SESSION`` prints a line when it is connected, and lists once it reads one.
"""

import asyncio
import sys
from contextlib import suppress

from ripieno.client import AsyncClient, OverloadedError

_LISTS = 5


async def main(address: str, session_id: str) -> None:
    """List the whole session, one list after the other."""
    async with AsyncClient(address, patience=300) as client:
        session = await client.open_session(session_id)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(_LISTS):
            with suppress(OverloadedError):  # told so: that is one of the right answers
                await session.task_ids()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
