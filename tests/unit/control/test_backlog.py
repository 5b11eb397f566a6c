"""Reports that wait to be written are bounded in bytes: whoever would add more waits."""

import asyncio

from ripieno.control.agents.backlog import Backlog


async def test_whoever_would_add_to_what_is_too_much_waits_until_some_is_written() -> None:
    backlog = Backlog(100)
    loop = asyncio.get_running_loop()
    first, second, third = loop.create_future(), loop.create_future(), loop.create_future()
    backlog.hold(60, first)
    await asyncio.wait_for(backlog.room(), 10)
    backlog.hold(60, second)
    backlog.hold(60, third)
    room = asyncio.create_task(backlog.room())
    first.set_result(None)
    await asyncio.sleep(0)
    assert backlog.held == 120
    assert not room.done()
    second.set_exception(ValueError("it ended all the same"))
    await asyncio.wait_for(room, 10)
    third.cancel()
    await asyncio.sleep(0)
    assert backlog.held == 0
    second.exception()
