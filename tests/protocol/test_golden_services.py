"""Golden scenarios of the services beside version 2, through their bare stubs (part 8)."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest_asyncio

from protocol.bare_client import Client, refused
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation, by_attempt, echo, erring, held
from protocol.deadlines import PATIENCE_S, eventually
from protocol.messages import COMPLETED, ERROR, PROCESSING, SUBMITTED, options, out, task, unique
from ripieno.wire.protos.v1 import (
    events_pb2,
    events_pb2_grpc,
    query_pb2,
    results_pb2,
    results_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)

NOT_FOUND, FAILED_PRECONDITION = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION


class Services:
    """Stubs of the services beside version 2."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.sessions = sessions_pb2_grpc.SessionsStub(channel)
        self.tasks = tasks_pb2_grpc.TasksStub(channel)
        self.results = results_pb2_grpc.ResultsStub(channel)
        self.events = events_pb2_grpc.EventsStub(channel)

    async def statuses(self, session: str) -> dict[str, str]:
        """The status of each task of a session, by a list."""
        return {each.id: each.status for each in (await self.tasks.List(of_session(session), timeout=PATIENCE_S)).tasks}

    async def told(self, session: str, cursor: str = "") -> tuple[list[str], str]:
        """What there is in a session, or what came since a cursor; and the cursor behind it."""
        told: list[str] = []
        request = events_pb2.FollowEventsRequest(session_ids=[session], cursor=cursor)
        async for batch in self.events.Follow(request, timeout=PATIENCE_S):
            told += [short(event) for event in batch.events]
            if batch.cursor:
                return told, batch.cursor
        raise AssertionError("the stream ended by itself")


def short(event: events_pb2.Event) -> str:
    match event.WhichOneof("change"):
        case "session":
            return f"session {event.session.status}"
        case "task":
            return f"{event.task.task_id} {event.task.status} {event.task.attempt}"
        case _:
            return f"{event.result.key} {event.result.status}"


def of_session(session: str) -> query_pb2.Query:
    condition = query_pb2.Condition(field="session_id", operator=query_pb2.EQUAL, text=session)
    return query_pb2.Query(filter=query_pb2.Filter(any_of=[query_pb2.Conjunction(all_of=[condition])]))


def named(session: str) -> sessions_pb2.SessionId:
    return sessions_pb2.SessionId(session_id=session)


@pytest_asyncio.fixture(loop_scope="session")
async def services(stage: Stage) -> AsyncIterator[Services]:
    async with grpc.aio.insecure_channel(stage.process.address) as channel:
        yield Services(channel)


async def test_s1_a_task_that_fails_and_ends_well_is_told_step_by_step(
    client: Client, workers: Workers, services: Services
) -> None:
    session, name = await client.session(default=options(max_retries=0)), unique("s1")
    _, cursor = await services.told(session)
    workers.behave(by_attempt(erring("boom"), echo), name)
    await client.submit(session, task(name))
    await client.until(name, ERROR)
    reply = await services.tasks.Retry(tasks_pb2.RetryRequest(task_ids=[name]), timeout=PATIENCE_S)
    assert (reply.retried, list(reply.not_retried)) == (1, [])
    await client.until(name, COMPLETED)

    wanted = [
        f"{out(name)} CREATED",
        f"{name} SUBMITTED 0",
        f"{out(name)} ABORTED",
        f"{name} ERROR 0",
        f"{name} SUBMITTED 1",
        f"{name} COMPLETED 1",
        f"{out(name)} COMPLETED",
    ]
    told: list[str] = []
    while f"{out(name)} COMPLETED" not in told:
        more, cursor = await services.told(session, cursor)
        told += more
    # An agent whose workers are all busy may give a task back, which is SUBMITTED again then.
    waits = [each for each in told if f"{name} SUBMITTED" in each]
    assert [each for each, _ in itertools.groupby(waits)] == [wanted[1], wanted[4]]
    assert set(wanted) <= set(told)
    attempts = await services.tasks.ListAttempts(
        query_pb2.Query(
            filter=query_pb2.Filter(
                any_of=[
                    query_pb2.Conjunction(
                        all_of=[query_pb2.Condition(field="task_id", operator=query_pb2.EQUAL, text=name)]
                    )
                ]
            )
        ),
        timeout=PATIENCE_S,
    )
    assert [(each.number, each.status, each.error) for each in attempts.attempts] == [
        (0, "ERROR", "boom"),
        (1, "COMPLETED", ""),
    ]


async def test_s2_nothing_begins_in_a_paused_session(client: Client, workers: Workers, services: Services) -> None:
    session, runs, waits = await client.session(), unique("s2runs"), unique("s2waits")
    gate = asyncio.Event()
    workers.behave(held(gate), runs)
    await client.submit(session, task(runs))
    await workers.begun(runs)
    paused = await services.sessions.Pause(named(session), timeout=PATIENCE_S)
    assert paused.status == "PAUSED"
    await client.submit(session, task(waits, needs=[out(runs)]))
    gate.set()
    await client.until(runs, COMPLETED)
    assert await services.statuses(session) == {runs: "COMPLETED", waits: "SUBMITTED"}
    assert workers.attempts_of(waits) == [] and await client.status(waits) == SUBMITTED
    resumed = await services.sessions.Resume(named(session), timeout=PATIENCE_S)
    assert resumed.status == "RUNNING"
    await client.until(waits, COMPLETED)


async def test_s3_from_closed_to_deleted(client: Client, services: Services) -> None:
    session, name = await client.session(), unique("s3")
    await client.submit(session, task(name, payload=b"data"))
    await client.until(name, COMPLETED)
    with refused(FAILED_PRECONDITION, naming=["RUNNING"]):
        await services.sessions.Purge(named(session), timeout=PATIENCE_S)
    assert await client.result(session, out(name)) == b"data"
    assert (await services.sessions.Close(named(session), timeout=PATIENCE_S)).status == "CLOSED"
    with refused(FAILED_PRECONDITION):
        await client.submit(session, task(unique("late")))
    assert (await services.sessions.Purge(named(session), timeout=PATIENCE_S)).status == "PURGED"
    result = results_pb2.ResultId(session_id=session, key=out(name))

    async def is_deleted() -> bool:
        return (await services.results.Get(result, timeout=PATIENCE_S)).status == "DELETED"

    await eventually(is_deleted, "the result to be deleted")
    assert (await services.results.Get(result, timeout=PATIENCE_S)).size == 4
    await services.sessions.Delete(named(session), timeout=PATIENCE_S)
    with refused(NOT_FOUND, naming=[session]):
        await services.sessions.Get(named(session), timeout=PATIENCE_S)
    with refused(NOT_FOUND):
        await services.tasks.Get(tasks_pb2.TaskId(task_id=name), timeout=PATIENCE_S)


async def test_s4_data_that_no_task_made_is_payload_and_dependency(
    client: Client, workers: Workers, services: Services
) -> None:
    session, name, inputs = await client.session(), unique("s4"), []

    async def reads(call: Conversation) -> None:
        read = await call.task()
        inputs.append(dict(read.data))
        for key in read.expected_output_keys:
            await call.send_result(key, read.payload)
        await call.ok()

    workers.behave(reads, name)
    Entry = results_pb2.CreateResultsRequest.Entry  # noqa: N806 - a class
    request = results_pb2.CreateResultsRequest(
        session_id=session, entries=[Entry(name="input", data=b"from a client"), Entry(name="later")]
    )
    given, later = (await services.results.Create(request, timeout=PATIENCE_S)).entries
    assert (given.status, later.status) == ("COMPLETED", "CREATED")
    NewTask = tasks_pb2.SubmitTasksRequest.NewTask  # noqa: N806 - a class
    submitted = await services.tasks.Submit(
        tasks_pb2.SubmitTasksRequest(
            session_id=session,
            tasks=[
                NewTask(id=name, payload_key=given.key, expected_output_keys=[out(name)], data_dependencies=[later.key])
            ],
        ),
        timeout=PATIENCE_S,
    )
    assert list(submitted.task_ids) == [name]
    assert (await services.tasks.Get(tasks_pb2.TaskId(task_id=name), timeout=PATIENCE_S)).unmet_dependencies == 1

    async def pieces() -> AsyncIterator[results_pb2.UploadRequest]:
        yield results_pb2.UploadRequest(begin=results_pb2.UploadBegin(key=later.key))
        for _ in range(3):
            yield results_pb2.UploadRequest(chunk=b"x" * 50_000)
        yield results_pb2.UploadRequest(complete=True)

    replies = [reply async for reply in services.results.Upload(pieces(), timeout=PATIENCE_S)]
    assert (replies[-1].complete, replies[-1].offset) == (True, 150_000)
    await client.until(name, COMPLETED)
    assert await client.result(session, out(name)) == b"from a client"
    assert inputs == [{later.key: b"x" * 150_000}]
    deleted = await services.results.DeleteData(
        results_pb2.DeleteDataRequest(session_id=session, keys=[later.key]), timeout=PATIENCE_S
    )
    assert list(deleted.deleted_keys) == [later.key]
    needs = unique("needs")
    await client.submit(session, task(needs, needs=[later.key]))
    await client.until(needs, ERROR)
    why = (await services.tasks.Get(tasks_pb2.TaskId(task_id=needs), timeout=PATIENCE_S)).error
    assert later.key in why and "deleted" in why


async def test_x1_a_task_is_explained_at_each_step(client: Client, workers: Workers, services: Services) -> None:
    session, runs, waits = await client.session(default=options(max_retries=0)), unique("x1runs"), unique("x1waits")
    gate = asyncio.Event()
    workers.behave(held(gate, erring("boom")), runs)
    await client.submit(session, task(runs), task(waits, needs=[out(runs)]))
    await workers.begun(runs)
    await client.until(runs, PROCESSING)
    running = await services.tasks.Explain(tasks_pb2.TaskId(task_id=runs), timeout=PATIENCE_S)
    [reason] = running.reasons
    assert (running.status, reason.kind, reason.WhichOneof("about")) == ("PROCESSING", "running", "running")
    assert reason.running.agent_connected and reason.running.worker and reason.sentence.startswith("It has run for ")
    waiting = await services.tasks.Explain(tasks_pb2.TaskId(task_id=waits), timeout=PATIENCE_S)
    [reason] = waiting.reasons
    [needed] = reason.waits_for_inputs.inputs
    assert (needed.key, needed.status, needed.task_id, needed.task_status) == (out(runs), "CREATED", runs, "PROCESSING")
    gate.set()
    await client.until(waits, ERROR)
    failed = await services.tasks.Explain(tasks_pb2.TaskId(task_id=waits), timeout=PATIENCE_S)
    [reason] = failed.reasons
    assert [(link.task_id, link.status, link.input) for link in reason.input_failed.chain] == [
        (waits, "ERROR", out(runs)),
        (runs, "ERROR", ""),
    ]
    assert [(each.number, each.status, each.reason) for each in reason.input_failed.attempts] == [(0, "ERROR", "boom")]
    with refused(NOT_FOUND):
        await services.tasks.Explain(tasks_pb2.TaskId(task_id=unique("none")), timeout=PATIENCE_S)
