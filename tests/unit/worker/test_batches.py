"""What only the batch lane does."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from unit.worker import requests
from unit.worker.agents import Agent, BatchRun, BatchStream, Item, agent_of, rest_of, results_of
from unit.worker.processes import HERE, WorkerProcess, worker_process


@pytest_asyncio.fixture
async def agent(worker: WorkerProcess) -> AsyncIterator[Agent]:
    async with agent_of(worker.address, "batch") as agent:
        yield agent


@pytest.fixture
def stream(agent: Agent) -> BatchStream:
    return agent.batch_stream()


async def test_many_attempts_in_one_message_run_in_order(stream: BatchStream) -> None:
    runs = [BatchRun(stream, number) for number in range(1, 301)]
    stream.runs = {run.number: run for run in runs}
    items = [Item(attempt=run.number, requests=task("echo", f"{run.number}".encode())) for run in runs]
    await stream.send(*items)
    for run in runs:
        assert results_of(await rest_of(run)) == {"r": f"{run.number}".encode()}
    assert stream.messages < len(runs) / 2, "answers gather while others are written"
    await stream.half_close()
    assert not await stream.receive()


async def test_messages_of_attempts_may_interleave(stream: BatchStream) -> None:
    payloads = {number: [f"{number}{part}".encode() for part in "abc"] for number in (1, 2)}
    stream.runs = {number: BatchRun(stream, number) for number in payloads}
    parts = {
        number: [
            requests.init_request(options={"do": "echo"}, first_chunk=first),
            *map(requests.payload_chunk, rest),
            requests.payload_complete(),
            requests.last_data(),
        ]
        for number, (first, *rest) in payloads.items()
    }
    for first, second in zip(*parts.values(), strict=True):
        await stream.send(Item(attempt=1, requests=[first]), Item(attempt=2, requests=[second]))
    for number, run in stream.runs.items():
        assert results_of(await rest_of(run)) == {"r": b"".join(payloads[number])}


@pytest.mark.parametrize("final", [True, False], ids=["for good", "this attempt"])
async def test_what_an_exception_carries_goes_with_the_end_of_its_attempt(stream: BatchStream, final: bool) -> None:
    run = await stream.begin(task("raise_with_value", b"final" if final else b"not"))
    told = await rest_of(run)
    assert run.failure_value == b"\0the exception"
    text = told[-1].output.error.details if final else run.failed or ""
    assert text == "it carries" if final else text.endswith("ValueError: it carries") and "Traceback" in text
    other = await stream.begin(task("raise"))
    assert await rest_of(other) == [] and other.failed and other.failure_value is None


async def test_an_attempt_that_has_not_begun_is_withdrawn(stream: BatchStream, tmp_path: Path) -> None:
    holding, question = await hold(stream)
    waiting = [await stream.begin(task("note_cancel", str(tmp_path / "note").encode())) for _ in range(2)]
    await waiting[0].withdraw()
    await waiting[1].cancel()
    for run in waiting:
        assert await run.next() is None
        assert run.withdrawn and run.failed is None
    await holding.send(requests.datum_answer("resource", question, "go", b"done"))
    assert results_of(await rest_of(holding)) == {"r": b"done"}
    assert not (tmp_path / "note").exists()


async def test_an_attempt_that_has_begun_is_not_withdrawn(stream: BatchStream) -> None:
    holding, question = await hold(stream)
    await holding.withdraw()
    await holding.send(requests.datum_answer("resource", question, "go", b"done"))
    assert results_of(await rest_of(holding)) == {"r": b"done"}


async def test_an_attempt_still_arriving_is_withdrawn(stream: BatchStream) -> None:
    run = await stream.begin([requests.init_request()])
    await run.withdraw()
    assert await run.next() is None
    assert run.withdrawn
    # What was under way when it was withdrawn is about nothing any more.
    await run.send([requests.payload_complete(), requests.last_data()])
    assert results_of(await rest_of(await stream.begin(task("echo", b"x")))) == {"r": b"x"}


async def test_a_cancelled_attempt_is_answered_at_its_end(stream: BatchStream) -> None:
    holding, _ = await hold(stream)
    await holding.cancel()
    assert await holding.next() is None
    assert holding.failed == "cancelled"


async def test_answers_to_an_attempt_that_has_ended_are_ignored(stream: BatchStream) -> None:
    holding, question = await hold(stream)
    await holding.cancel()
    assert await holding.next() is None
    await holding.send(requests.datum_answer("resource", question, "go", b"too late"))
    await holding.cancel()
    assert results_of(await rest_of(await stream.begin(task("echo", b"x")))) == {"r": b"x"}


async def test_a_stream_that_ends_inside_a_task_fails_it(stream: BatchStream) -> None:
    whole = await stream.begin(task("echo", b"x"))
    cut_short = await stream.begin([requests.init_request()])
    await stream.half_close()
    assert results_of(await rest_of(whole)) == {"r": b"x"}
    assert await cut_short.next() is None
    assert cut_short.failed == "the stream ended before the task was complete"
    assert not await stream.receive()


async def test_a_lost_stream_drops_what_it_brought(agent: Agent, stream: BatchStream, tmp_path: Path) -> None:
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    run = await stream.begin(task("note_cancel", str(running).encode()))
    assert await run.next() is not None
    await stream.begin(task("note_cancel", str(waiting).encode()))
    stream.cancel()
    after = agent.batch_stream()
    assert results_of(await rest_of(await after.begin(task("echo", b"x")))) == {"r": b"x"}
    assert running.read_text() == "cancelled: True"
    assert not waiting.exists()


async def test_bytes_that_are_no_message_end_their_stream_alone(agent: Agent) -> None:
    call = agent._batch.Process()
    call._request_serializer = lambda message: message
    await call.write(b"\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError, match="cannot be read"):
        await call.read()
    assert results_of(await rest_of(await agent.batch_stream().begin(task("echo", b"x")))) == {"r": b"x"}


def task(do: str, payload: bytes = b"") -> Iterator[requests.ProcessRequest]:
    return requests.whole_task("t", payload, options={"do": do})


async def hold(stream: BatchStream) -> tuple[BatchRun, str]:
    """A running attempt that waits for an answer, and the answer's id."""
    run = await stream.begin(task("hold"))
    question = await run.next()
    assert question is not None
    return run, question.request_id


@pytest.fixture(scope="module")
def together() -> Iterator[WorkerProcess]:
    with worker_process("scenarios:handle_async", "--concurrency", "3") as process:
        yield process


async def test_each_place_runs_one_attempt_at_a_time_in_order(together: WorkerProcess) -> None:
    """Three are held at the same time; what is behind them in a place waits, and each end is its own."""
    async with agent_of(together.address, "batch") as agent:
        stream = agent.batch_stream()
        await stream.knows_places()
        assert stream.places == 3
        held = [await stream.begin(task("pause_async"), place) for place in range(3)]
        questions = [await run.next() for run in held]
        behind = await stream.begin(task("echo", b"behind"), 0)
        await held[1].cancel()
        assert await rest_of(held[1]) == [] and held[1].failed == "cancelled"
        other = await stream.begin(task("echo", b"in its place"), 1)
        assert results_of(await rest_of(other)) == {"r": b"in its place"}
        assert not behind.replies and not behind.ended
        await stream.begin(task("fail_for_good"), 1)
        for run, question in [(held[0], questions[0]), (held[2], questions[2])]:
            assert question is not None
            await run.send(requests.datum_answer("resource", question.request_id, "go", b"on"))
            assert results_of(await rest_of(run)) == {"r": b"on"}
        assert results_of(await rest_of(behind)) == {"r": b"behind"}


async def test_an_agent_that_knows_no_places_has_one(together: WorkerProcess) -> None:
    async with agent_of(together.address, "batch") as agent:
        stream = agent.batch_stream()
        held = await stream.begin(task("pause_async"))
        question = await held.next()
        behind = await stream.begin(task("echo", b"behind"))
        assert question is not None and stream.places == 0 and not behind.replies
        await held.send(requests.datum_answer("resource", question.request_id, "go", b"on"))
        assert results_of(await rest_of(held)) == {"r": b"on"}
        assert results_of(await rest_of(behind)) == {"r": b"behind"}


async def test_a_worker_with_one_place_says_so(stream: BatchStream) -> None:
    await stream.knows_places()
    assert stream.places == 1


async def test_a_draining_worker_gives_back_what_waits_in_any_place() -> None:
    with worker_process("scenarios:handle_async", "--concurrency", "2") as worker:
        async with agent_of(worker.address, "batch") as agent:
            stream = agent.batch_stream()
            held = [await stream.begin(task("pause_async"), place) for place in range(2)]
            questions = [await run.next() for run in held]
            behind = [await stream.begin(task("echo"), place) for place in range(2)]
            worker.process.send_signal(signal.SIGTERM)
            for run in behind:
                assert await run.next() is None and run.withdrawn
            for run, question in zip(held, questions, strict=True):
                assert question is not None
                await run.send(requests.datum_answer("resource", question.request_id, "go", b"on"))
                assert results_of(await rest_of(run)) == {"r": b"on"}
        assert worker.process.wait(20) == 0


@pytest.mark.parametrize(
    ("handler", "concurrency", "why"),
    [("handle", "2", "the handler is a plain function"), ("handle_async", "0", "one attempt at a time at least")],
)
def test_several_at_a_time_are_for_coroutine_functions(handler: str, concurrency: str, why: str) -> None:
    command = [sys.executable, "-m", "ripieno.worker", f"scenarios:{handler}", "--concurrency", concurrency]
    ended = subprocess.run(
        [*command, "--address", "unix:/nowhere"], cwd=HERE, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and why in ended.stderr and len(ended.stderr.splitlines()) == 1
