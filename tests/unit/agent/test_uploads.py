"""Large data waits with the worker that sends it, not in the agent, while the network is behind."""

import asyncio

from ripieno.agent.data.uploads import _WAITING_CHUNKS, Upload
from ripieno.agent.uplink.link import Link


async def test_whoever_sends_to_an_upload_that_does_not_move_waits_until_it_is_aborted() -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        failures: list[Exception] = []
        # No control plane is there: nothing is taken.
        upload = Upload(Link(), tasks, on_stored=lambda stored: None, on_failed=failures.append)
        for _ in range(_WAITING_CHUNKS):
            await upload.put(bytes(84_000))
        waiting = tasks.create_task(upload.put(b"one more"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        upload.abort()
        await waiting
        await upload.put(b"nobody wants it any more")
    assert not failures
