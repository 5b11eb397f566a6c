"""Retries through stubs of `ripieno.v1.Tasks`, with workers and clients that know the original protocol alone."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest_asyncio

from protocol.bare_client import Client, reasons
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import echo, erring
from protocol.deadlines import PATIENCE_S
from protocol.messages import COMPLETED, ERROR, options, out, task, unique
from ripieno.wire.protos.v1 import events_pb2, events_pb2_grpc, query_pb2, tasks_pb2, tasks_pb2_grpc


@pytest_asyncio.fixture(loop_scope="session")
async def channel(stage: Stage) -> AsyncIterator[grpc.aio.Channel]:
    """To the control plane of the shared cluster."""
    async with grpc.aio.insecure_channel(stage.process.address) as channel:
        yield channel


async def attempts(tasks: "tasks_pb2_grpc.TasksAsyncStub", task_id: str) -> list[tuple[int, str, str]]:
    """Number, status and reason of each attempt of a task."""
    own = query_pb2.Condition(field="task_id", operator=query_pb2.EQUAL, text=task_id)
    which = query_pb2.Filter(any_of=[query_pb2.Conjunction(all_of=[own])])
    page = await tasks.ListAttempts(query_pb2.Query(filter=which, sort=[query_pb2.Sort(field="number")]))
    return [(each.number, each.status, each.error) for each in page.attempts]


async def told(follow: Any, last: str) -> list[tuple[str, str, int]]:
    """What is told of tasks until this one is COMPLETED: id, status, attempt."""
    changes: list[tuple[str, str, int]] = []
    async with asyncio.timeout(2 * PATIENCE_S):
        while not any(change[:2] == (last, "COMPLETED") for change in changes):
            events = (await follow.read()).events
            changes += [
                (event.task.task_id, event.task.status, event.task.attempt)
                for event in events
                if event.HasField("task") and event.task.status not in ("DISPATCHED", "PROCESSING")
            ]
    return changes


async def test_a_chain_is_mended(client: Client, workers: Workers, channel: grpc.aio.Channel) -> None:
    tasks = tasks_pb2_grpc.TasksStub(channel)
    session = await client.session(default=options(max_retries=0))
    first, second, third = unique("first"), unique("second"), unique("third")
    follow: Any = events_pb2_grpc.EventsStub(channel).Follow(events_pb2.FollowEventsRequest(session_ids=[session]))
    while not (await follow.read()).snapshot_ends:
        pass
    workers.behave(erring("the file is missing"), first)
    await client.submit(session, task(first), task(second, needs=[out(first)]), task(third, needs=[out(second)]))
    assert await client.finish(session) == {ERROR: 3}
    assert await attempts(tasks, first) == [(0, "ERROR", "the file is missing")]

    workers.behave(echo, first)
    reply = await tasks.Retry(tasks_pb2.RetryRequest(session_id=session, task_ids=[first, "nobody"]))
    assert (reply.retried, reply.revived, reply.not_retried_total) == (1, 2, 1)
    assert [(each.task_id, each.reason) for each in reply.not_retried] == [("nobody", "there is no such task")]

    assert await client.available(session, out(third)) is None
    assert await client.finish(session) == {COMPLETED: 3}
    assert await attempts(tasks, first) == [(0, "ERROR", "the file is missing"), (1, "COMPLETED", "")]
    assert await attempts(tasks, second) == [(0, "COMPLETED", "")]
    assert [attempt.task_id for attempt in workers.attempts_of(first)] == [first, f"{first}###1"]

    changes = await told(follow, third)
    follow.cancel()
    of_first = [change[1:] for change in changes if change[0] == first]
    # An agent whose workers are all busy may give a task back, which is SUBMITTED again then.
    assert _without_repeats(of_first) == [("SUBMITTED", 0), ("ERROR", 0), ("SUBMITTED", 1), ("COMPLETED", 1)]
    # It waited, failed for want of an input, waited again, and was ready; it has had one attempt.
    of_third = [change[1:] for change in changes if change[0] == third]
    assert _without_repeats(of_third) == [("SUBMITTED", 0), ("ERROR", 0), ("SUBMITTED", 0), ("COMPLETED", 0)]
    assert of_third.count(("SUBMITTED", 0)) >= 3


def _without_repeats(changes: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [change for change, _ in itertools.groupby(changes)]


async def test_what_failed_for_want_of_two_is_told_why(
    client: Client, workers: Workers, channel: grpc.aio.Channel
) -> None:
    tasks = tasks_pb2_grpc.TasksStub(channel)
    session = await client.session(default=options(max_retries=0))
    one, two, both = unique("one"), unique("two"), unique("both")
    workers.behave(erring("one is broken"), one)
    workers.behave(erring("two is broken"), two)
    await client.submit(session, task(one), task(two), task(both, needs=[out(one), out(two)]))
    assert await client.finish(session) == {ERROR: 3}

    for mended, other in ((one, "two is broken"), (two, "")):
        workers.behave(echo, mended)
        reply = await tasks.Retry(tasks_pb2.RetryRequest(task_ids=[mended, both]))
        assert reply.retried == 1
        if other:
            [left] = reply.not_retried
            assert left.task_id == both and other in left.reason
            await client.finish(session)
            assert other in " ".join(reasons(await client.available(session, out(both))))
    assert await client.available(session, out(both)) is None
    assert await client.finish(session) == {COMPLETED: 3}
