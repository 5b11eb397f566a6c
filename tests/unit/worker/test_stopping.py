"""How a worker ends: by a signal, with its agent, or not at all."""

import signal
import sys
from pathlib import Path

import cloudpickle
import pytest

from ripieno.wire.protos.armonik_v2.objects_pb2 import Empty
from ripieno.wire.protos.armonik_v2.worker_service_pb2 import HealthCheckReply
from ripieno.worker.__main__ import main
from unit.worker import requests
from unit.worker.agents import CallRun, agent_of, rest_of, results_of
from unit.worker.processes import worker_process

WAIT_S = 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("handler", ["scenarios:handle", "scenarios:handle_async"])
async def test_an_idle_worker_ends_at_a_signal(number: signal.Signals, handler: str) -> None:
    with worker_process(handler) as worker:
        worker.process.send_signal(number)
        assert worker.process.wait(WAIT_S) == 0
        assert not Path(worker.address.removeprefix("unix:")).exists()


async def test_the_running_attempt_ends_first_and_the_others_go_back() -> None:
    with worker_process("scenarios:handle") as worker:
        async with agent_of(worker.address, "batch") as agent:
            stream = agent.batch_stream()
            running = await stream.begin(requests.whole_task(options={"do": "hold"}))
            question = await running.next()
            assert question is not None
            waiting = await stream.begin(requests.whole_task(options={"do": "echo"}))
            late = CallRun(agent.worker.Process())
            worker.process.send_signal(signal.SIGTERM)
            assert await waiting.next() is None
            assert waiting.withdrawn
            health = await agent.worker.HealthCheck(Empty())
            assert health.status == health.NOT_SERVING
            assert await late.next() is None
            assert late.code is not None and late.code.name == "UNAVAILABLE"
            await running.send(requests.datum_answer("resource", question.request_id, "go", b"done"))
            assert results_of(await rest_of(running)) == {"r": b"done"}
            assert not await stream.receive()
        assert worker.process.wait(WAIT_S) == 0


async def test_a_call_in_progress_ends_first() -> None:
    with worker_process("scenarios:handle_async") as worker:
        async with agent_of(worker.address, "call") as agent:
            run = CallRun(agent.worker.Process())
            await run.send(requests.whole_task("t", b"unused", options={"do": "note_cancel"}))
            question = await run.next()
            assert question is not None
            worker.process.send_signal(signal.SIGTERM)
            await run.send(requests.datum_answer("resource", question.request_id, "go", b""))
            assert results_of(await rest_of(run)) == {"r": b""}
        assert worker.process.wait(WAIT_S) == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with worker_process("scenarios:handle") as worker:
        async with agent_of(worker.address, "batch") as agent:
            run = await agent.begin(
                requests.whole_task("t", str(tmp_path / "never").encode(), keys=["begun", "r"], options={"do": "spin"})
            )
            assert await run.next() is not None
            worker.process.send_signal(signal.SIGTERM)
            # Once it says that it stops, the first signal has been taken.
            status = None
            while status != HealthCheckReply.NOT_SERVING:
                status = (await agent.worker.HealthCheck(Empty())).status
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(WAIT_S) == -signal.SIGTERM


async def test_the_worker_for_functions_calls_what_it_is_sent() -> None:
    with worker_process() as worker:
        async with agent_of(worker.address, "batch") as agent:
            payload = cloudpickle.dumps((lambda base, *, exponent: base**exponent, (2,), {"exponent": 10}))
            replies = await rest_of(await agent.begin(requests.whole_task("t", payload)))
            assert cloudpickle.loads(results_of(replies)["r"]) == 1024
            failing = await agent.begin(requests.whole_task("t", cloudpickle.dumps((int, ("x",), {}))))
            await rest_of(failing)
            assert failing.failed is not None and "ValueError: invalid literal" in failing.failed


def test_a_worker_that_cannot_start_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert main(["no_such_module:handle", "--address", "unix:/nowhere"]) == 2
    assert "there is no module 'no_such_module'" in capsys.readouterr().err
