"""A worker whose handler is a coroutine function, in both lanes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.worker import requests
from unit.worker.agents import Agent, rest_of, results_of
from unit.worker.processes import WorkerProcess, worker_process


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with worker_process("scenarios:handle_async") as process:
        yield process


async def test_attempts_follow_one_another(agent: Agent) -> None:
    for payload in (b"", b"1", b"more than a chunk"):
        run = await agent.begin(requests.whole_task("t", payload, options={"do": "echo"}, chunk_bytes=5))
        assert results_of(await rest_of(run)) == {"r": payload}


async def test_an_exception_fails_the_attempt(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "raise"}))
    assert await rest_of(run) == []
    assert run.failed is not None and "ValueError: the strike is négative" in run.failed


async def test_a_task_error_is_final(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "fail_for_good"}))
    assert (await rest_of(run))[-1].output.error.details == "boom"


async def test_questions_at_the_same_time_streams_and_sub_tasks(agent: Agent) -> None:
    keys = ["streamed", "pieces", "left"]
    run = await agent.begin(requests.whole_task(keys=keys, options={"do": "everything"}, chunk_bytes=4))
    questions = [await run.next(), await run.next()]
    for question in reversed(questions):
        assert question is not None
        kind = question.WhichOneof("type")
        assert kind in ("resource", "common_data")
        key = question.resource.key or question.common_data.key
        await run.send(requests.datum_answer(kind, question.request_id, key, key.encode() * 3, chunk_bytes=2))
    replies = []
    while (reply := await run.next()) is not None and not reply.HasField("create_small_task"):
        replies.append(reply)
    assert reply is not None
    await run.send([requests.sub_tasks_taken(reply.request_id)])
    replies += await rest_of(run)
    assert results_of(replies) == {"streamed": b"12345", "pieces": b"aaabbb", "left": b"left"}
    assert replies[-1].output.HasField("ok")


async def test_a_cancel_reaches_the_coroutine(agent: Agent, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run = await agent.begin(requests.whole_task("t", str(note).encode(), options={"do": "note_cancel"}))
    assert await run.next() is not None
    await run.cancel()
    after = await agent.begin(requests.whole_task("t", b"next", options={"do": "echo"}))
    assert results_of(await rest_of(after)) == {"r": b"next"}
    assert note.read_text() == "cancelled: True"


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "impatient"}))
    slow, go = await run.next(), await run.next()
    assert slow is not None and go is not None
    await run.send(requests.datum_answer("resource", slow.request_id, "slow", b"too late"))
    await run.send(requests.datum_answer("resource", go.request_id, "go", b"in time"))
    assert results_of(await rest_of(run)) == {"r": b"in time"}


async def test_a_coroutine_deaf_to_its_cancel_leaves_no_trace(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "deaf"}))
    assert await run.next() is not None
    await run.cancel()
    after = [await agent.begin(requests.whole_task("t", b"next", options={"do": "echo"})) for _ in range(3)]
    for following in after:
        assert results_of(await rest_of(following)) == {"r": b"next"}


async def test_a_cancellation_is_waited_for_beside_the_handler(agent: Agent, tmp_path: Path) -> None:
    note = tmp_path / "note"
    keys = ["begun", "r"]
    run = await agent.begin(requests.whole_task("t", str(note).encode(), keys=keys, options={"do": "wait_cancelled"}))
    assert await run.next() is not None, "its first wait ended in time"
    await run.cancel()
    after = await agent.begin(requests.whole_task("t", b"next", options={"do": "echo"}))
    assert results_of(await rest_of(after)) == {"r": b"next"}
    assert note.read_text() == "True True"
