"""Workers that do not say well how they are: asked again in peace, and spoken of with what they said."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from ripieno.agent.transport.channels import worker_channel
from ripieno.agent.workers import health, keeper
from ripieno.agent.workers.health import Health
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import agent
from unit.agent.toy_worker import Status

SERVES, RUBBISH, OF_TOMORROW = b"\x08\x01", b"\xff\xff\xff", b"\x08\x63"


class Patient:
    """Answers HealthCheck with ``reply``, or with an error where that is none; knows when it was asked."""

    def __init__(self) -> None:
        self.reply: bytes | None = None
        self.asked_at: list[float] = []

    async def check(self, _request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        self.asked_at.append(time.monotonic())
        if self.reply is None:
            await context.abort(grpc.StatusCode.INTERNAL, "a headache")
        return self.reply


@asynccontextmanager
async def serving(patient: Patient, address: str) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(patient.check)
    handlers = grpc.method_handlers_generic_handler("ArmoniK.api.grpc.v1.Worker", {"HealthCheck": method})
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(address)
    await server.start()
    try:
        async with worker_channel(address) as channel:
            yield channel
    finally:
        await server.stop(None)


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a worker: a short one."""
    return f"unix:{tmp_path_factory.mktemp('w')}/0.sock"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("reply", "how", "why"),
    [
        (None, Health.SILENT, "HealthCheck failed: INTERNAL: a headache"),
        (RUBBISH, Health.SILENT, "HealthCheck was answered with bytes that are no reply"),
        (OF_TOMORROW, Health.NOT_SERVING, "HealthCheck says 99"),
        (b"", Health.NOT_SERVING, "HealthCheck says UNKNOWN"),
        (SERVES, Health.SERVING, ""),
    ],
)
async def test_what_a_worker_says_is_told_and_nothing_else_is_logged(
    address: str, caplog: pytest.LogCaptureFixture, reply: bytes | None, how: Health, why: str
) -> None:
    patient = Patient()
    patient.reply = reply
    async with serving(patient, address) as channel:
        found, told = await health.ask_why(channel)
    assert found is how
    assert told.startswith(why) and bool(told) == bool(why)
    assert not caplog.records


@pytest.mark.parametrize("reply", [None, RUBBISH, b""], ids=["error", "rubbish", "does not serve"])
async def test_a_worker_that_answers_at_once_is_asked_in_peace(
    address: str, monkeypatch: pytest.MonkeyPatch, reply: bytes | None
) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0.2)
    patient, heard = Patient(), list[str]()
    patient.reply = reply
    async with serving(patient, address) as channel:
        waiting = asyncio.create_task(health.until_serving(channel, heard.append))
        await until(lambda: len(patient.asked_at) >= 4 or waiting.done())
        patient.reply = SERVES
        with suppress(TimeoutError):
            await asyncio.wait_for(waiting, 10)
    first, *_, fourth = patient.asked_at[:4]
    assert fourth - first > 0.5
    assert set(heard) and all("HealthCheck" in why for why in heard)


async def test_why_a_worker_does_not_serve_is_logged_once(
    replica: Replica, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "SILENT_S", 0.1)
    patient = Patient()
    async with serving(patient, address), agent(replica, attach=(address,)):
        await until(lambda: "a headache" in caplog.text)
        asked = len(patient.asked_at)
        patient.reply = RUBBISH
        await until(lambda: len(patient.asked_at) > asked + 1)
    *unexplained, told = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert told.endswith("waiting for it; HealthCheck failed: INTERNAL: a headache")
    # Where the worker takes longer to answer than the agent waits in silence, the silence is logged first.
    assert len(unexplained) <= 1 and all(words.endswith("waiting for it") for words in unexplained)


async def test_a_reason_that_is_heard_after_the_silence_was_logged_is_logged_too(
    replica: Replica, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "SILENT_S", 0.01)
    async with agent(replica, attach=(address,)):
        await until(lambda: "waiting for it" in caplog.text)
        async with serving(Patient(), address):
            await until(lambda: "a headache" in caplog.text)
    assert caplog.text.count("nothing serves") == 2


async def test_a_worker_that_serves_no_more_is_spoken_of(
    replica: Replica, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    worker, where = await serve(batch=False)
    async with agent(replica, attach=(where,)):
        replica.submit(Task("before"))
        await replica.outcome_of("before")
        worker.health = Status.NOT_SERVING
        await until(lambda: "given nothing until it does: HealthCheck says NOT_SERVING" in caplog.text)
        replica.submit(Task("after"))
        worker.health = Status.SERVING
        assert (await replica.outcome_of("after")).HasField("completed")
    assert caplog.text.count("serves no more") == 1
