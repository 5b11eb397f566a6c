"""What only the lane of single calls does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from unit.worker import requests
from unit.worker.agents import Agent, CallRun, agent_of, rest_of, results_of
from unit.worker.processes import WorkerProcess


@pytest_asyncio.fixture
async def agent(worker: WorkerProcess) -> AsyncIterator[Agent]:
    async with agent_of(worker.address, "call") as agent:
        yield agent


async def test_the_call_ends_with_ok_after_output(agent: Agent) -> None:
    run = await begin(agent, "echo")
    await rest_of(run)
    await run.half_close()
    assert await run.next() is None
    assert run.code is not None and run.code.name == "OK"


async def test_a_call_that_is_half_closed_early_still_gets_its_answer(agent: Agent) -> None:
    run = await begin(agent, "echo", b"x")
    await run.half_close()
    assert results_of(await rest_of(run)) == {"r": b"x"}


async def test_a_call_that_ends_before_its_task_is_complete_fails(agent: Agent) -> None:
    run = CallRun(agent.worker.Process())
    await run.send([requests.init_request()])
    await run.half_close()
    assert await run.next() is None
    assert run.failed == "the stream ended before the task was complete"
    assert run.code is not None and run.code.name == "INVALID_ARGUMENT"


async def test_bytes_that_are_no_message_end_their_call_alone(agent: Agent) -> None:
    call = agent.worker.Process()
    call._request_serializer = lambda message: message
    await call.write(b"\xff\xff")
    run = CallRun(call)
    assert await run.next() is None
    assert run.failed is not None and "cannot be read" in run.failed
    assert results_of(await rest_of(await begin(agent, "echo", b"x"))) == {"r": b"x"}


async def test_a_second_call_waits_for_its_turn(agent: Agent) -> None:
    first = await begin(agent, "hold")
    question = await first.next()
    assert question is not None
    second = await begin(agent, "echo", b"second")
    await first.send(requests.datum_answer("resource", question.request_id, "go", b"first"))
    assert results_of(await rest_of(first)) == {"r": b"first"}
    assert results_of(await rest_of(second)) == {"r": b"second"}


async def test_a_call_cancelled_while_it_waits_never_begins(agent: Agent, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    busy = CallRun(agent.worker.Process())
    await busy.send(requests.whole_task("t", str(stop).encode(), keys=["begun", "r"], options={"do": "spin"}))
    assert await busy.next() is not None
    # A handler that is deaf to cancels goes on; the next call has the lane, but not yet the handler.
    await busy.cancel()
    waiting = await begin(agent, "note_cancel", str(tmp_path / "note").encode())
    await waiting.cancel()
    # Calls have the lane in their order: one that is refused in it says that the cancel has arrived.
    refused = CallRun(agent.worker.Process())
    await refused.send([requests.init_request()])
    await refused.half_close()
    assert await refused.next() is None
    stop.touch()
    assert results_of(await rest_of(await begin(agent, "echo", b"last"))) == {"r": b"last"}
    assert not (tmp_path / "note").exists()


async def begin(agent: Agent, do: str, payload: bytes = b"") -> CallRun:
    run = CallRun(agent.worker.Process())
    await run.send(requests.whole_task("t", payload, options={"do": do}))
    return run
