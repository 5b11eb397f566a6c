"""A real worker process, driven over its socket in both lanes: what an attempt may do."""

import asyncio
from pathlib import Path

import pytest

from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.armonik_v2.objects_pb2 import Empty
from unit.worker import requests
from unit.worker.agents import Agent, CallRun, ProcessReply, Run, rest_of, results_of


async def ran(
    agent: Agent, do: str, payload: bytes = b"", keys: tuple[str, ...] = ("r",)
) -> tuple[Run, list[ProcessReply]]:
    """Run a task to its end and return what came."""
    run = await agent.begin(requests.whole_task("t", payload, keys=keys, options={"do": do}, chunk_bytes=5))
    return run, await rest_of(run)


async def test_a_handler_is_given_all_of_the_task(agent: Agent) -> None:
    messages = requests.whole_task(
        "t###2", b"some payload", keys=["r"], options={"do": "tell"}, data={"x": b"1234567", "y": b""}, chunk_bytes=3
    )
    replies = await rest_of(await agent.begin(messages))
    told = ("s", "t###2", b"some payload", {"x": b"1234567", "y": b""}, ("r",), False)
    assert results_of(replies) == {"r": repr(told).encode()}


@pytest.mark.parametrize("payload", [b"", b"abc", b"more than one chunk"])
async def test_returned_bytes_are_the_single_result(agent: Agent, payload: bytes) -> None:
    _, replies = await ran(agent, "echo", payload)
    assert results_of(replies) == {"r": payload}
    assert all(len(reply.result.data.data) <= 5 for reply in replies)
    assert replies[-1].output.HasField("ok")
    assert replies[-1].request_id == ""


async def test_returning_nothing_sends_nothing(agent: Agent) -> None:
    _, replies = await ran(agent, "nothing")
    assert [reply.WhichOneof("type") for reply in replies] == ["output"]
    assert replies[0].output.HasField("ok")


async def test_pieces_become_chunks(agent: Agent) -> None:
    _, replies = await ran(agent, "two_results", keys=("a", "b"))
    assert results_of(replies) == {"a": b"12345678901", "b": b"the one that is left: b"}
    chunks = [reply.result.data.data for reply in replies if reply.result.data.HasField("data")]
    assert chunks[:3] == [b"12345", b"67890", b"1"]


async def test_a_task_error_is_final(agent: Agent) -> None:
    run, replies = await ran(agent, "fail_for_good")
    assert run.failed is None
    assert replies[-1].output.error.details == "boom"


@pytest.mark.parametrize(
    ("do", "keys", "said"),
    [
        ("raise", ("r",), "ValueError: the strike is négative"),
        ("raise_much", ("r",), " last"),
        ("exit", ("r",), "SystemExit: 3"),
        ("number", ("r",), "TypeError: the handler returned int; return bytes"),
        ("bytes", ("r", "q"), "owed are: 'r', 'q'"),
        ("bytes", (), "owed are: none"),
        ("foreign_key", ("r",), "'foreign' is not an expected output of this task; expected: 'r'"),
        ("same_key_twice", ("r",), "'r' was sent or delegated already"),
        ("half_result_hidden", ("r",), "before these results were sent whole: 'r'"),
    ],
)
async def test_anything_else_fails_the_attempt(agent: Agent, do: str, keys: tuple[str, ...], said: str) -> None:
    run, replies = await ran(agent, do, keys=keys)
    assert not any(reply.HasField("output") for reply in replies)
    assert run.failed is not None and said in run.failed
    if isinstance(run, CallRun):
        assert run.code is not None and run.code.name == "INTERNAL"
    _, replies = await ran(agent, "echo", b"next")
    assert results_of(replies) == {"r": b"next"}


async def test_a_failure_is_told_with_the_handlers_own_frames(agent: Agent) -> None:
    run, _ = await ran(agent, "raise")
    assert run.failed is not None
    assert run.failed.startswith("Traceback (most recent call last):\n")
    assert "scenarios.py" in run.failed.splitlines()[1]


async def test_a_result_begun_when_the_task_fails_for_good_is_ended(agent: Agent) -> None:
    _, replies = await ran(agent, "half_result", b"final")
    assert list(results_of(replies)) == ["r"]
    assert replies[-1].output.error.details == "in the middle"


async def test_an_error_inside_a_result_fails_the_attempt(agent: Agent) -> None:
    run, _ = await ran(agent, "half_result", b"not")
    assert run.failed is not None and "ValueError: in the middle" in run.failed


@pytest.mark.parametrize(("payload", "kind"), [(b"1234", "create_small_task"), (b"123456", "create_large_task")])
async def test_sub_tasks_are_taken(agent: Agent, payload: bytes, kind: str) -> None:
    run = await agent.begin(requests.whole_task("t", payload, options={"do": "submit"}, chunk_bytes=5))
    first = await run.next()
    assert first is not None and first.WhichOneof("type") == kind
    reply = first
    while kind == "create_large_task" and not reply.create_large_task.init_task.last_task:
        last = await run.next()
        assert last is not None and last.request_id == first.request_id
        reply = last
    asked = first.create_small_task if kind == "create_small_task" else first.create_large_task.init_request
    assert options_from_wire("task_options", asked.task_options).max_duration_us == 2_000_000
    await run.send([requests.sub_tasks_taken(first.request_id)])
    replies = await rest_of(run)
    assert [reply.WhichOneof("type") for reply in replies] == ["output"]


async def test_sub_tasks_are_refused_and_the_parent_goes_on(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "submit"}))
    asked = await run.next()
    assert asked is not None
    await run.send([requests.sub_tasks_refused(asked.request_id, ["child"])])
    assert results_of(await rest_of(run)) == {"r": b"('child',)"}


async def test_what_was_delegated_is_no_longer_owed(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "submit_and_return"}))
    asked = await run.next()
    assert asked is not None and not asked.create_small_task.HasField("task_options")
    await run.send([requests.sub_tasks_taken(asked.request_id)])
    await rest_of(run)
    assert run.failed is not None and "owed are: none" in run.failed


async def test_data_of_three_kinds(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "fetch"}))
    resource = await run.next()
    assert resource is not None and resource.resource.key == "a"
    await run.send(requests.datum_answer("resource", resource.request_id, "a", b"12345", chunk_bytes=2))
    common = await run.next()
    assert common is not None and common.common_data.key == "b"
    await run.send(requests.datum_answer("common_data", common.request_id, "b", b""))
    direct = await run.next()
    assert direct is not None and direct.direct_data.key == "c"
    await run.send([requests.datum_refusal("direct_data", direct.request_id, "c", "not here")])
    assert results_of(await rest_of(run)) == {"r": b"12345||c: not here"}


async def test_a_violation_before_the_task_is_complete_fails_it(agent: Agent) -> None:
    run = await agent.begin([requests.init_request(), requests.last_data()])
    await rest_of(run)
    assert run.failed == "compute.init_data arrived where compute.payload was due"
    if isinstance(run, CallRun):
        assert run.code is not None and run.code.name == "INVALID_ARGUMENT"


async def test_a_violation_while_the_handler_runs_fails_it(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(options={"do": "hold"}))
    assert await run.next() is not None
    await run.send([requests.init_request()])
    await rest_of(run)
    assert run.failed is not None and "compute.init_request arrived where an answer" in run.failed


async def test_cancelling_ends_a_wait(agent: Agent, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run = await agent.begin(requests.whole_task("t", str(note).encode(), options={"do": "note_cancel"}))
    assert await run.next() is not None
    await run.cancel()
    _, replies = await ran(agent, "echo", b"next")
    assert results_of(replies) == {"r": b"next"}
    assert note.read_text() == "cancelled: True"


async def test_cancelling_is_seen_by_a_handler_that_looks(agent: Agent) -> None:
    run = await agent.begin(requests.whole_task(keys=["begun", "r"], options={"do": "spin_until_cancelled"}))
    assert await run.next() is not None
    await run.cancel()
    _, replies = await ran(agent, "echo", b"next")
    assert results_of(replies) == {"r": b"next"}


async def test_health_while_a_handler_computes(agent: Agent, tmp_path: Path) -> None:
    signal = tmp_path / "stop"
    run = await agent.begin(requests.whole_task("t", str(signal).encode(), keys=["begun", "r"], options={"do": "spin"}))
    assert await run.next() is not None
    health = await agent.worker.HealthCheck(Empty())
    assert health.status == health.SERVING
    signal.touch()
    assert (await rest_of(run))[-1].output.HasField("ok")


async def test_a_cancellation_is_waited_for(agent: Agent, tmp_path: Path) -> None:
    note = tmp_path / "note"
    keys = ["begun", "r"]
    run = await agent.begin(requests.whole_task("t", str(note).encode(), keys=keys, options={"do": "wait_cancelled"}))
    assert await run.next() is not None, "its first wait ended in time"
    await run.cancel()
    await ran(agent, "echo", b"next")
    assert note.read_text() == "True True"


async def test_a_thread_that_outlives_its_attempt_waits_for_no_cancellation(agent: Agent, tmp_path: Path) -> None:
    note = tmp_path / "note"
    await ran(agent, "leave_waiting", str(note).encode())
    async with asyncio.timeout(20):
        while not (note.exists() and note.read_text()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
    assert note.read_text() == "False"
