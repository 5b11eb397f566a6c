"""A bug in one of the agent's loops is told, and the loop goes on: neither the agent nor what it holds is lost."""

from collections.abc import Callable
from typing import Any

import pytest

from ripieno.agent.data.inputs import Inputs
from ripieno.agent.scheduling.dispatcher import Dispatcher
from ripieno.agent.scheduling.outcome_outbox import Outbox
from ripieno.agent.uplink.uplink import Uplink
from ripieno.agent.workers.batch_lane import BatchLane
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import agent


def failing_at_first(method: Callable[..., Any], times: list[None]) -> Callable[..., Any]:
    """The method, that fails until it has been called so often."""

    def call(*arguments: Any, **named: Any) -> Any:
        if times:
            times.pop()
            raise ZeroDivisionError("a bug")
        return method(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Dispatcher, "tick"),
        (Inputs, "advance"),
        (Outbox, "take"),
        (Uplink, "_hello"),
        (BatchLane, "_read"),
    ],
)
async def test_a_bug_of_a_loop_is_told_and_the_loop_goes_on(
    replica: Replica,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    name: str,
) -> None:
    _, address = await serve(batch=True)
    times: list[None] = [None] * 2
    monkeypatch.setattr(owner, name, failing_at_first(getattr(owner, name), times))
    async with agent(replica, attach=(address,)) as running:
        for place in range(3):
            replica.submit(Task(f"t{place}", payload=b"nap:0.05"))
            await replica.outcome_of(f"t{place}")
        assert not times
        assert not running.task.done()
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert 1 <= len(told) <= 2 and all(record.exc_info for record in told)
