"""Both lanes against a bare worker over real sockets: order of messages, failures, data."""

import asyncio
import hashlib
import time

import pytest

from ripieno.agent.scheduling import pace
from ripieno.agent.transport.calls import Call
from ripieno.domain.outcomes import FAILURE_VALUE_LIMIT_BYTES
from ripieno.wire.protos.armonik_v2 import worker_service_pb2
from ripieno.wire.protos.v1 import agent_pb2
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import agent, teach

Reason = agent_pb2.Outcome.Failed
both_lanes = pytest.mark.parametrize("batch", [False, True], ids=["process", "batch"])


def inline_result(outcome: agent_pb2.Outcome) -> bytes:
    (result,) = outcome.completed.results
    assert result.data.WhichOneof("where") == "inline"
    return result.data.inline


@both_lanes
async def test_the_order_of_messages(replica: Replica, serve: Serve, batch: bool) -> None:
    """G25: 3 payload chunks, 2 dependencies, one of them twice and one empty."""
    worker, address = await serve(batch=batch)
    replica.limits = (10, 65_536)
    replica.results = {"d1": b"0123456789ab", "d2": b""}
    async with agent(replica, attach=(address,)):
        task = Task("t", payload=b"p" * 25, dependencies=("d1", "d2", "d1"), retry=2, options={"k": "v"})
        submitted_us = time.time_ns() // 1_000
        replica.submit(task)
        outcome = await replica.outcome_of("t")
    assert inline_result(outcome)[:10] == b"p" * 10
    assert outcome.worker == f"agent/{address}"
    assert submitted_us <= outcome.started_at_us <= time.time_ns() // 1_000
    expected = ["init_request 10", "payload 10", "payload 5", "payload complete"]
    expected += ["key d1", "data 10", "data 2", "data complete", "key d2", "data 0", "data complete", "last_data"]
    assert worker.orders["t###2"] == expected + ([] if batch else ["output sent", "half-closed"])


@both_lanes
async def test_an_empty_payload(replica: Replica, serve: Serve, batch: bool) -> None:
    worker, address = await serve(batch=batch)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t"))
        await replica.outcome_of("t")
    assert worker.orders["t"][:3] == ["init_request 0", "payload complete", "last_data"]


@both_lanes
async def test_failures_and_the_worker_goes_on(replica: Replica, serve: Serve, batch: bool) -> None:
    _, address = await serve(batch=batch)
    async with agent(replica, attach=(address,)):
        replica.submit(
            Task("fails", payload=b"fail:kaboom"),
            Task("error", payload=b"error:boom"),
            Task("foreign", payload=b"foreign"),
            Task("slow", payload=b"nap:30", max_duration_s=0.05),
            Task("fine", payload=b"x"),
        )
        failed = (await replica.outcome_of("fails")).failed
        assert failed.reason == Reason.ATTEMPT
        assert "kaboom" in failed.detail
        error = (await replica.outcome_of("error")).failed
        assert (error.reason, error.detail) == (Reason.OUTPUT, "boom")
        foreign = (await replica.outcome_of("foreign")).failed
        assert foreign.reason == Reason.ATTEMPT
        assert "'foreign' is foreign" in foreign.detail
        slow = (await replica.outcome_of("slow")).failed
        assert slow.reason == Reason.TIMEOUT
        assert "max_duration (0.05 s)" in slow.detail
        assert inline_result(await replica.outcome_of("fine")) == b"x"
    assert all(len(outcomes) == 1 for outcomes in replica.outcomes.values())


async def test_the_value_of_a_failure_is_reported_unless_it_is_too_long(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.submit(
            Task("retried", payload=b"fail:boom with bytes"),
            Task("final", payload=b"error:boom with bytes"),
            Task("none", payload=b"fail:boom"),
            Task("much", payload=f"fail:boom with x*{FAILURE_VALUE_LIMIT_BYTES + 1}".encode()),
        )
        failures = {name: (await replica.outcome_of(name)).failed for name in ("retried", "final", "none", "much")}
    assert (failures["retried"].detail, failures["retried"].value) == ("boom", b"bytes")
    assert (failures["final"].reason, failures["final"].value) == (Reason.OUTPUT, b"bytes")
    assert [name for name, failed in failures.items() if failed.HasField("value")] == ["retried", "final"]


@both_lanes
async def test_an_attempt_that_asks_for_too_many_sub_tasks_is_not_tried_again(
    replica: Replica, serve: Serve, batch: bool
) -> None:
    _, address = await serve(batch=batch)
    replica.sub_tasks_per_attempt = 3
    async with agent(replica, attach=(address,)):
        replica.submit(Task("few", payload=b"many:3"), Task("many", payload=b"many:4"), Task("fine", payload=b"x"))
        assert len((await replica.outcome_of("few")).completed.sub_tasks[0].tasks) == 3
        failed = (await replica.outcome_of("many")).failed
        assert failed.reason == Reason.OUTPUT
        assert failed.detail.startswith("limit sub_tasks_per_attempt is 3,")
        assert inline_result(await replica.outcome_of("fine")) == b"x"


async def test_a_handler_that_fails_as_unavailable_is_no_dead_worker(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=False)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"unavailable:database"))
        failed = (await replica.outcome_of("t")).failed
    assert failed.detail == "the worker's call failed: UNAVAILABLE: database"


async def test_half_close_follows_an_output_error_too(replica: Replica, serve: Serve) -> None:
    worker, address = await serve(batch=False)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"error:boom"))
        await replica.outcome_of("t")
    assert worker.orders["t"][-2:] == ["output sent", "half-closed"]


async def test_a_call_without_output_is_a_violation(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=False)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("mute", payload=b"mute"), Task("fine", payload=b"x"))
        failed = (await replica.outcome_of("mute")).failed
        assert failed.reason == Reason.ATTEMPT
        assert "the call ended without Output" in failed.detail
        await replica.outcome_of("fine")


async def test_cancelling_just_before_the_start(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=False)
    async with agent(replica, attach=(address,)):
        for number in range(20):
            replica.submit(Task(f"gone {number}", payload=b"nap:30"), Task(f"fine {number}", payload=b"x"))
            await replica.until(lambda number=number: f"gone {number}" in replica.assigned)  # type: ignore[misc]
            replica.cancel(f"gone {number}")
            assert (await replica.outcome_of(f"gone {number}")).HasField("cancelled")
            await replica.outcome_of(f"fine {number}")


@both_lanes
async def test_one_attempt_at_a_time_and_in_order(
    replica: Replica, serve: Serve, batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine 20 ms pass easily, and what is given back may run later than what followed it.
    monkeypatch.setattr(pace, "SHORT_AHEAD_S", pace.LONG_S)
    monkeypatch.setattr(pace, "SHORT_S", pace.LONG_S)
    worker, address = await serve(batch=batch)
    async with agent(replica, attach=(address,)):
        names = [f"t{number}" for number in range(60)]
        replica.submit(*[Task(name, payload=name.encode()) for name in names])
        await replica.until(lambda: len(replica.outcomes) == len(names))
    assert worker.ids == names
    assert worker.most_at_once <= 1


@both_lanes
async def test_data_for_workers(replica: Replica, serve: Serve, batch: bool) -> None:
    """G26, and what each kind costs the control plane."""
    _, address = await serve(batch=batch)
    replica.results = {"small": b"s" * 100, "large": "object", "common": b"c"}
    replica.objects["object"] = b"l" * 200_000
    async with agent(replica, attach=(address,)):
        asked = {
            "resource": ("resource", "small"),
            "again": ("resource", "small"),
            "large": ("resource", "large"),
            "common": ("common_data", "common"),
            "common again": ("common_data", "common"),
            "direct": ("direct_data", "common"),
            "direct unknown": ("direct_data", "nowhere"),
            "unknown": ("resource", "nowhere"),
        }
        values = {}
        for name, (kind, key) in asked.items():
            replica.submit(Task(name, payload=f"{kind}:{key}".encode()))
            outcome = await replica.outcome_of(name)
            (result,) = outcome.completed.results
            where = result.data.WhichOneof("where")
            values[name] = result.data.inline if where == "inline" else replica.objects[result.data.object.name]
        assert values["resource"] == values["again"] == b"s" * 100
        assert values["large"] == b"l" * 200_000
        assert values["common"] == values["common again"] == values["direct"] == b"c"
        assert values["direct unknown"].startswith(b"error: result 'nowhere' is not on this agent")
        assert values["unknown"] == b"error: no result 'nowhere'"
    fetched = [key for keys in replica.fetches for key in keys]
    assert fetched.count("small") == 2
    assert fetched.count("common") == 1


async def test_direct_data_finds_what_was_made_here(replica: Replica, serve: Serve) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("maker", outputs=("made",), payload=b"value"))
        await replica.outcome_of("maker")
        replica.submit(Task("reader", payload=b"direct_data:made"))
        assert inline_result(await replica.outcome_of("reader")) == b"value"
    assert replica.fetches == []


@both_lanes
async def test_a_dependency_is_fetched_once_and_shared(replica: Replica, serve: Serve, batch: bool) -> None:
    _, address = await serve(batch=batch)
    replica.results = {"market": b"m" * 1000, "large": "object"}
    replica.objects["object"] = b"l" * 300_000
    async with agent(replica, attach=(address,)):
        replica.submit(
            *[Task(f"s{number}", payload=b"data", dependencies=("market",)) for number in range(10)],
            *[Task(f"l{number}", payload=b"digest", dependencies=("large",)) for number in range(3)],
        )
        await replica.until(lambda: len(replica.outcomes) == 13)
        assert inline_result(replica.outcomes["s9"][0]) == b"m" * 1000
        expected = hashlib.sha256(b"digest" + b"l" * 300_000).digest()
        assert inline_result(replica.outcomes["l2"][0]) == expected
    assert sorted(key for keys in replica.fetches for key in keys) == ["large", "market"]
    assert replica.reads == ["object"]


@both_lanes
async def test_a_missing_dependency_fails_the_attempt(replica: Replica, serve: Serve, batch: bool) -> None:
    _, address = await serve(batch=batch)
    replica.results["gone"] = "gone"
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", dependencies=("nowhere",)))
        failed = (await replica.outcome_of("t")).failed
        assert failed.reason == Reason.ATTEMPT
        assert "'nowhere'" in failed.detail
        replica.submit(Task("v", dependencies=("gone",)), Task("w", payload=b"x"))
        failed = (await replica.outcome_of("v")).failed
        assert failed.reason == Reason.ATTEMPT
        assert "no object 'gone'" in failed.detail
        await replica.outcome_of("w")


@both_lanes
async def test_an_empty_object(replica: Replica, serve: Serve, batch: bool) -> None:
    _, address = await serve(batch=batch)
    replica.objects["empty"] = b""
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload="empty"))
        assert inline_result(await replica.outcome_of("t")) == b""


@both_lanes
async def test_large_payload_and_result(replica: Replica, serve: Serve, batch: bool) -> None:
    _, address = await serve(batch=batch)
    payload = b"digest" + bytes(range(256)) * 4_000
    replica.objects["payload"] = payload
    async with agent(replica, attach=(address,)):
        replica.submit(Task("in", payload="payload"), Task("out", payload=b"big:1000000"))
        assert inline_result(await replica.outcome_of("in")) == hashlib.sha256(payload).digest()
        (result,) = (await replica.outcome_of("out")).completed.results
        assert result.data.object.size == 84_000 * (1_000_000 // 84_000)
        assert replica.objects[result.data.object.name] == bytes(result.data.object.size)


@both_lanes
async def test_a_worker_that_does_not_serve_gets_nothing(replica: Replica, serve: Serve, batch: bool) -> None:
    worker, address = await serve(batch=batch)
    worker.health = worker_service_pb2.HealthCheckReply.NOT_SERVING
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"x"))
        await asyncio.sleep(0)
        assert replica.credit == 0
        assert not worker.ids
        worker.health = worker_service_pb2.HealthCheckReply.SERVING
        assert inline_result(await replica.outcome_of("t")) == b"x"


async def test_a_worker_that_is_not_up_yet_is_waited_for(replica: Replica, serve: Serve) -> None:
    _, present = await serve(batch=True)
    absent = present.replace("0.sock", "1.sock")
    async with agent(replica, attach=(absent,)):
        replica.submit(Task("t", payload=b"x"))
        assert await serve(batch=True)
        assert inline_result(await replica.outcome_of("t")) == b"x"


@both_lanes
async def test_a_call_that_ends_while_its_messages_wait_to_be_read(
    replica: Replica, serve: Serve, batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel, or the worker's end, may come between a message's arrival and the answer to it."""
    _, address = await serve(batch=batch)
    replica.results = {"small": b"s"}
    read, ends = Call.read, [True]

    async def read_and_end(call: Call) -> list[bytes]:
        messages = await read(call)
        if ends and any(b"nowhere" in message for message in messages):
            ends.clear()
            call.cancel()
        return messages

    monkeypatch.setattr(Call, "read", read_and_end)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("t", payload=b"create:nowhere"))
        outcome = await replica.outcome_of("t")
        assert outcome.failed.reason == Reason.ATTEMPT
        replica.submit(Task("next", payload=b"resource:small"))
        assert inline_result(await replica.outcome_of("next")) == b"s"


@both_lanes
async def test_cancelling_what_runs(replica: Replica, serve: Serve, batch: bool) -> None:
    worker, address = await serve(batch=batch)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("runs", payload=b"nap:30"))
        await replica.until(lambda: "runs" in replica.started)
        replica.cancel("runs")
        runs = await replica.outcome_of("runs")
        assert runs.HasField("cancelled") and runs.started_at_us > 0
        assert replica.interrupting == ["runs"]
        replica.submit(Task("next", payload=b"x"))
        await replica.outcome_of("next")
    assert worker.ids == ["runs", "next"]


async def test_cancelling_what_was_sent_ahead(replica: Replica, serve: Serve) -> None:
    worker, address = await serve(batch=True)
    async with agent(replica, attach=(address,)):
        await teach(replica, 0.1)
        replica.submit(Task("runs", payload=b"nap:0.2"), Task("waits", payload=b"x"))
        assert "waits" in replica.assigned
        replica.cancel("waits")
        waits = await replica.outcome_of("waits")
        assert waits.HasField("cancelled") and waits.started_at_us == 0
        await replica.outcome_of("runs")
    assert worker.ids == ["teacher", "runs"]
    assert replica.interrupting == []


@both_lanes
async def test_lost_attempts_end_in_silence(replica: Replica, serve: Serve, batch: bool) -> None:
    _, address = await serve(batch=batch)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("lost", payload=b"nap:30"))
        await replica.until(lambda: "lost" in replica.started)
        replica.lose("lost")
        replica.submit(Task("next", payload=b"x"))
        await replica.outcome_of("next")
    assert "lost" not in [*replica.outcomes, *replica.released]


async def test_a_stuck_attached_worker_is_left_alone_until_it_yields(replica: Replica, serve: Serve) -> None:
    worker, address = await serve(batch=True)
    async with agent(replica, attach=(address,), cancel_grace_s=0.1):
        replica.submit(Task("stuck", payload=b"stuck:0.7", max_duration_s=0.05), Task("next", payload=b"x"))
        await replica.outcome_of("stuck")
        assert inline_result(await replica.outcome_of("next")) == b"x"
    assert worker.ids == ["stuck", "next"]
