"""Retries over gRPC: what is retried, what is revived, what is not and why, and who waits meanwhile."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from control.replica import Served, serving, until
from ripieno.config import Limits
from ripieno.control.upkeep import retries
from ripieno.control.waiting.watches import TasksWatch
from ripieno.domain.outcomes import Failure, Outcome
from ripieno.domain.submission import NewTask
from ripieno.store.database.gates import gates
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2, submitter_service_pb2_grpc, task_status_pb2
from ripieno.wire.protos.v1 import query_pb2, results_pb2, results_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from store.world import World, done, failed, options, task, until_one_waits

_SOON_S = 20.0
_Filter = submitter_service_pb2.TaskFilter


async def retry(channel: grpc.aio.Channel, *ids: str, **fields: Any) -> tasks_pb2.RetryReply:
    request = tasks_pb2.RetryRequest(task_ids=ids, **fields)
    return await tasks_pb2_grpc.TasksStub(channel).Retry(request, timeout=_SOON_S)


def told(reply: tasks_pb2.RetryReply) -> tuple[int, int, dict[str, str]]:
    assert reply.not_retried_total == len(reply.not_retried)
    return reply.retried, reply.revived, {each.task_id: each.reason for each in reply.not_retried}


async def fail(world: World, *tasks: NewTask, session_id: str = "s", names: Sequence[str] = ("a",)) -> None:
    """Submit tasks, and let those of these names fail for good; the others that were claimed complete."""
    await world.submit(*tasks, session_id=session_id)
    claimed = await world.claim()
    ends = [
        failed(each, f"{name} broke", Failure.OUTPUT) if name in names else done(each, dict.fromkeys(each.expected_output_keys, b""))
        for name, each in claimed.items()
    ]  # fmt: skip
    await world.commit(*ends)


GRAPH = [task("a", "ka"), task("b", "kb", needs=["ka"]), task("c", needs=["kb"]), task("fine", "kf")]


async def test_tasks_by_id_and_what_is_below_them(channel: grpc.aio.Channel, world: World) -> None:
    await fail(world, *GRAPH)
    await world.session("t")
    await fail(world, task("a of t", "ka"), session_id="t", names=["a of t"])
    reply = await retry(channel, "a", "b", "a", "a###1", "fine", "nobody", "no\0body", "a of t", session_id="s")
    assert told(reply) == (
        1,
        2,
        {
            "fine": "it is COMPLETED; only tasks in ERROR or TIMEOUT are retried",
            "nobody": "there is no such task",
            "no\0body": "there is no such task",
            "a of t": "it is not a task of session 's'",
        },
    )
    assert await world.statuses("a", "b", "c", "a of t") == ["SUBMITTED"] * 3 + ["ERROR"]
    assert told(await retry(channel, "a", "a of t")) == (
        1,
        0,
        {"a": "it is SUBMITTED; only tasks in ERROR or TIMEOUT are retried"},
    )


async def test_all_that_failed_in_a_session(channel: grpc.aio.Channel, world: World) -> None:
    await fail(world, *GRAPH, task("x", "kx"), task("y", needs=["kx"]), names=["a", "x"])
    assert told(await retry(channel, session_id="s", all_failed=True)) == (2, 3, {})
    assert told(await retry(channel, session_id="s", all_failed=True)) == (0, 0, {})


def condition(field: str, operator: query_pb2.Operator.ValueType, **value: Any) -> query_pb2.Condition:
    return query_pb2.Condition(field=field, operator=operator, **value)


async def test_those_that_match_a_filter(
    channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page at a time: what was retried matches no more."""
    monkeypatch.setattr(retries, "_PAGE", 3)
    names = [f"a{n}" for n in range(20)]
    await fail(world, *(task(name, name) for name in names), task("fine", "kf"), names=names)
    await world.submit(task("below", needs=["a11"]), task("of another", needs=["a2"]))
    await world.session("t")
    await fail(world, task("a1 of t"), session_id="t", names=["a1 of t"])
    filters = [
        query_pb2.Conjunction(all_of=[condition("id", query_pb2.STARTS_WITH, text="a1")]),
        query_pb2.Conjunction(all_of=[condition("error", query_pb2.CONTAINS, text="a11 broke")]),
        query_pb2.Conjunction(all_of=[condition("id", query_pb2.EQUAL, text="of another")]),
    ]
    reply = await retry(channel, session_id="s", filter=query_pb2.Filter(any_of=filters))
    retried, revived, reasons = told(reply)
    assert (retried, revived) == (11, 1)
    assert list(reasons) == ["of another"] and "a2 broke" in reasons["of another"]
    assert await world.statuses("a1", "a10", "a19", "below") == ["SUBMITTED"] * 4
    assert await world.statuses("a0", "a2", "a1 of t", "of another") == ["ERROR"] * 4
    # An empty filter selects everything.
    assert told(await retry(channel, session_id="s", filter=query_pb2.Filter())) == (9, 1, {})


async def test_what_cannot_run_all_the_same_is_told_with_the_reason(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(task("gone", "kg"), task("below", needs=["kg"]))
    await world.cancel("gone")
    await fail(world, task("a", "ka"), task("both", needs=["ka", "kg"]))
    why = "it cannot run: input 'kg' was aborted: task 'gone' ended in CANCELLED: cancelled"
    assert told(await retry(channel, session_id="s", all_failed=True)) == (1, 0, {"below": why, "both": why})
    gone = "it is CANCELLED; only tasks in ERROR or TIMEOUT are retried"
    assert told(await retry(channel, "gone", "below")) == (0, 0, {"gone": gone, "below": why})


async def test_other_options(channel: grpc.aio.Channel, world: World) -> None:
    await fail(world, *GRAPH)
    changed = tasks_pb2.RetryOptions(priority=99, max_retries=5, options={"partition": "gpu"})
    changed.max_duration.seconds = 3
    assert told(await retry(channel, "a", options=changed))[:2] == (1, 2)
    [claimed] = (await world.claim(partition="gpu")).values()
    found = (await world.claims.options([claimed.options_no]))[claimed.options_no]
    assert (found.max_duration_us, found.max_retries, found.priority) == (3_000_000, 5, 99)
    assert found.options == {"partition": "gpu"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "task_ids"),
        ({"session_id": "s"}, "task_ids"),
        ({"all_failed": True}, "session_id"),
        ({"all_failed": True, "session_id": "s", "task_ids": ["a"]}, "all_failed"),
        ({"filter": query_pb2.Filter()}, "session_id"),
        ({"filter": query_pb2.Filter(), "session_id": "s", "task_ids": ["a"]}, "filter"),
        (
            {
                "session_id": "s",
                "filter": query_pb2.Filter(any_of=[query_pb2.Conjunction(all_of=[query_pb2.Condition()])]),
            },
            "filter.any_of[0].all_of[0]",
        ),
        ({"session_id": " ", "task_ids": ["a"]}, "session_id"),
        ({"task_ids": ["a"], "options": tasks_pb2.RetryOptions(priority=0)}, "options.priority"),
        ({"task_ids": ["a"], "options": tasks_pb2.RetryOptions(max_retries=-1)}, "options.max_retries"),
        ({"task_ids": ["a"], "options": tasks_pb2.RetryOptions(options={"partition": " "})}, "options.options"),
    ],
)
async def test_a_request_that_breaks_a_rule(
    channel: grpc.aio.Channel, world: World, fields: dict[str, Any], field: str
) -> None:
    await fail(world, *GRAPH)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tasks_pb2_grpc.TasksStub(channel).Retry(tasks_pb2.RetryRequest(**fields), timeout=_SOON_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(field)
    assert await world.statuses("a") == ["ERROR"]


async def test_a_session_that_is_unknown_or_takes_no_retries(channel: grpc.aio.Channel, world: World) -> None:
    await fail(world, *GRAPH)
    await world.cancel_session()
    for fields, code in (
        ({"session_id": "nowhere", "all_failed": True}, grpc.StatusCode.NOT_FOUND),
        ({"session_id": "nowhere", "task_ids": ["a"]}, grpc.StatusCode.NOT_FOUND),
        ({"session_id": "s", "all_failed": True}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"session_id": "s", "task_ids": ["a"]}, grpc.StatusCode.FAILED_PRECONDITION),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tasks_pb2_grpc.TasksStub(channel).Retry(tasks_pb2.RetryRequest(**fields), timeout=_SOON_S)
        assert caught.value.code() is code
    retried, _, reasons = told(await retry(channel, "a"))
    assert retried == 0 and "session 's' is cancelled" in reasons["a"]


async def test_one_set_of_options_too_many_retries_nothing(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, tmp_path / "objects", limits=Limits(options_per_session=2)) as served:
        world = served.world
        await world.session()
        await world.submit(task("a", "ka"), of=options(retries=0))
        await world.commit(failed((await world.claim())["a"], "no", Failure.OUTPUT))
        async with served.connect() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await retry(channel, "a", options=tasks_pb2.RetryOptions(priority=77))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "options_per_session" in (caught.value.details() or "")
            assert await world.statuses("a") == ["ERROR"]
            assert told(await retry(channel, "a"))[0] == 1


async def test_a_wait_for_tasks_does_not_end_before_the_retried_one_has(
    channel: grpc.aio.Channel, served: Served
) -> None:
    """A wait goes on for a task that had ended and was retried while another task of the wait had not ended."""
    world = served.world
    await world.submit(task("a", "ka"), task("z", "kz"))
    claimed = await world.claim()
    request = submitter_service_pb2.WaitRequest(filter=_Filter(task=_Filter.IdsRequest(ids=["a", "z"])))
    waiting = asyncio.ensure_future(
        submitter_service_pb2_grpc.SubmitterStub(channel).WaitForCompletion(request, timeout=60)
    )
    waited_for = {name: each.ticket.task_no for name, each in claimed.items()}
    await until(lambda: waited(served) == sorted(waited_for.values()))
    await tell(served, failed(claimed["a"], "a broke", Failure.OUTPUT))
    await until(lambda: waited(served) == [waited_for["z"]])
    assert told(await retry(channel, "a"))[0] == 1
    [again] = (await world.claim()).values()
    await tell(served, done(claimed["z"], {"kz": b""}))
    await until(lambda: waited(served) == [waited_for["a"]])
    await tell(served, done(again, {"ka": b""}))
    counts = {each.status: each.count for each in (await waiting).values}
    assert counts == {task_status_pb2.TASK_STATUS_COMPLETED: 2}


def waited(served: Served) -> list[int]:
    """Numbers of the tasks for which calls of the replica wait."""
    watches = [running.watch for running in served.replica._watcher._running.values()]
    return sorted(number for watch in watches if isinstance(watch, TasksWatch) for number in watch._waiting)


async def tell(served: Served, outcome: Outcome) -> None:
    """Commit an outcome, and publish it as the replica does."""
    served.reports._notices.publish(await served.world.commit(outcome))


async def test_who_follows_after_the_retry_waits_for_the_result(channel: grpc.aio.Channel, world: World) -> None:
    await fail(world, *GRAPH)
    follow: Any = results_pb2_grpc.ResultsStub(channel).Follow(timeout=_SOON_S)
    await follow.write(results_pb2.FollowRequest(session_id="s", keys=["ka"]))
    assert "a broke" in (await follow.read()).finished[0].error.errors[0].detail
    await retry(channel, "a")
    await follow.write(results_pb2.FollowRequest(session_id="s", keys=["ka", "kb"]))
    await follow.done_writing()
    await world.run(a="ka")
    await world.run(b="kb")
    finished: dict[str, bytes] = {}
    while (reply := await follow.read()) is not grpc.aio.EOF:
        finished |= {each.key: each.data for each in reply.finished}
    assert finished == {"ka": b"ka", "kb": b"kb"}


async def test_a_retry_whose_caller_goes_away_is_finished(channel: grpc.aio.Channel, world: World) -> None:
    await fail(world, *GRAPH)
    number = await world.number()
    async with world.database.connection() as connection:
        await connection.execute(f"begin;{gates([number])}")
        call = tasks_pb2_grpc.TasksStub(channel).Retry(tasks_pb2.RetryRequest(task_ids=["a"]))
        asking = asyncio.ensure_future(call.code())
        await until_one_waits(world)
        call.cancel()
        assert await asking is grpc.StatusCode.CANCELLED
        await connection.execute("commit")
    async with asyncio.timeout(_SOON_S):
        while await world.statuses("a", "b", "c") != ["SUBMITTED"] * 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
