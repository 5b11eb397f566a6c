"""A stream ends with a status, whatever was being written when it ended."""

import asyncio
import uuid
from typing import Any

import grpc
import grpc.aio
import pytest

from control.replica import Served
from ripieno.control.calls.streams import both_ways
from ripieno.wire.protos.v1 import agent_pb2, agent_pb2_grpc

_SOON_S = 10.0


@pytest.mark.parametrize("reads_welcome", [True, False])
@pytest.mark.parametrize("ends_well", [True, False])
async def test_an_agents_stream_ends_with_a_status(
    served: Served, channel: grpc.aio.Channel, reads_welcome: bool, ends_well: bool
) -> None:
    call = agent_pb2_grpc.AgentStub(channel).Connect()
    await call.write(agent_pb2.AgentMessage(hello=agent_pb2.Hello(agent_id=uuid.uuid4().bytes, name="a", slots=1)))
    if reads_welcome:
        await call.read()
    if ends_well:
        await call.done_writing()
    else:
        await call.write(agent_pb2.AgentMessage(outcomes_no=1, completions=agent_pb2.Completions(task_nos=[1])))
    async with asyncio.timeout(_SOON_S):
        code = await _end_of(call)
    assert (code is grpc.StatusCode.OK) == ends_well


async def _end_of(call: Any) -> grpc.StatusCode:
    """Read all there is; the status that follows."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    code: grpc.StatusCode = await call.code()
    return code


async def _never() -> None:
    await asyncio.Event().wait()


class _Sender:
    """Writes a message that takes its time, then waits to be stopped."""

    def __init__(self) -> None:
        self.written = False
        self.stopped = asyncio.Event()

    async def send(self) -> None:
        await asyncio.sleep(0.01)
        self.written = True
        await self.stopped.wait()


async def test_an_error_of_the_receiving_side_lets_the_write_end_and_is_raised() -> None:
    sender = _Sender()

    async def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await both_ways(refuse(), sender.send(), sender.stopped.set)
    assert sender.written


async def test_the_receiving_side_ends_with_the_sending_one() -> None:
    ended = asyncio.Event()

    async def receive() -> None:
        try:
            await _never()
        finally:
            ended.set()

    async def send() -> None:
        await asyncio.sleep(0)
        raise KeyError("gone")

    with pytest.raises(KeyError):
        await both_ways(receive(), send(), lambda: None)
    assert ended.is_set()


async def test_a_handler_that_is_cancelled_ends_both_sides() -> None:
    sender = _Sender()
    handler = asyncio.create_task(both_ways(_never(), sender.send(), sender.stopped.set))
    await asyncio.sleep(0)
    handler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handler
    assert not sender.written
