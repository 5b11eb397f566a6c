"""Steps of sessions' lives over gRPC: what each does to version 2, to agents, to those who wait, and to other replicas."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from control.replica import BareAgent, Served, serving
from ripieno.domain.statuses import SessionStep
from ripieno.store.database.database import Database
from ripieno.store.life.lives import take
from ripieno.wire.protos.armonik_v2 import (
    objects_pb2,
    session_status_pb2,
    submitter_service_pb2,
    submitter_service_pb2_grpc,
)
from ripieno.wire.protos.v1 import agent_pb2, sessions_pb2, sessions_pb2_grpc
from store.world import World, done, task

_SOON_S = 30.0

Sessions = sessions_pb2_grpc.SessionsStub
Submitter = submitter_service_pb2_grpc.SubmitterStub
_S = sessions_pb2.SessionId(session_id="s")


async def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    """The code and the detail of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), caught.value.details() or ""


async def until_true(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a state of which nobody tells."""
    async with asyncio.timeout(_SOON_S):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def is_swept(world: World) -> bool:
    """Whether nothing is left to do of any step."""
    return await world.rows("select 1 from pending_sweeps") == []


def small_task(name: str) -> submitter_service_pb2.CreateSmallTaskRequest:
    return submitter_service_pb2.CreateSmallTaskRequest(
        session_id="s", task_requests=[objects_pb2.TaskRequest(id=name, expected_output_keys=[name])]
    )


async def complete(agent: BareAgent, ticket: agent_pb2.Ticket, key: str, number: int) -> None:
    completions = agent_pb2.Completions(
        task_nos=[ticket.task_no],
        session_nos=[ticket.session_no],
        claims=[ticket.claim],
        started_at_us=[1],
        workers=["w"],
        result_counts=[1],
        keys=[key],
        data=[b"data"],
    )
    await agent.say(outcomes_no=number, completions=completions, credit=1)


async def test_a_paused_session_gives_agents_nothing_and_a_resumed_one_all(
    channel: grpc.aio.Channel, world: World
) -> None:
    await world.submit(task("before", "before"))
    agent = BareAgent(channel)
    await agent.hello(credit=1)
    await agent.until(lambda: len(agent.assigned) == 1)

    paused = await Sessions(channel).Pause(_S)
    assert (paused.id, paused.status, dict(paused.tasks)) == ("s", "PAUSED", {"DISPATCHED": 1})
    assert paused.client_submission and paused.worker_submission
    await Submitter(channel).CreateSmallTasks(small_task("meanwhile"))
    await complete(agent, agent.assigned[0], "before", 1)
    await agent.until(lambda: sum(len(message.settled) for message in agent.said) == 1)
    listed = await Submitter(channel).ListSessions(
        submitter_service_pb2.SessionFilter(
            included=submitter_service_pb2.SessionFilter.StatusesRequest(
                statuses=[session_status_pb2.SESSION_STATUS_RUNNING]
            )
        )
    )
    assert list(listed.session_ids) == ["s"]  # version 2 knows no pause
    assert await world.statuses("before", "meanwhile") == ["COMPLETED", "SUBMITTED"]
    assert len(agent.assigned) == 1

    resumed = await Sessions(channel).Resume(_S)
    assert resumed.status == "RUNNING"
    await agent.until(lambda: len(agent.assigned) == 2)
    agent.leave()


async def test_steps_that_a_status_does_not_allow_are_refused_by_name(channel: grpc.aio.Channel) -> None:
    sessions = Sessions(channel)
    assert await refusal(sessions.Purge(_S)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "session 's' cannot be purged: it is RUNNING; nothing was changed",
    )
    assert await refusal(sessions.Pause(sessions_pb2.SessionId(session_id="?"))) == (
        grpc.StatusCode.NOT_FOUND,
        "session '?' does not exist; create it first",
    )
    code, detail = await refusal(sessions.Close(sessions_pb2.SessionId()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and detail.startswith("session_id: ")
    code, detail = await refusal(sessions.StopSubmission(sessions_pb2.StopSubmissionRequest(session_id="s")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "whose submission is to stop" in detail
    assert (await sessions.Cancel(_S)).status == "CANCELLED"
    code, _ = await refusal(sessions.Resume(_S))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert (await sessions.Cancel(_S)).status == "CANCELLED"


async def test_a_closed_session_is_cancelled_as_version_2_sees_it(channel: grpc.aio.Channel) -> None:
    await Submitter(channel).CreateSmallTasks(small_task("t"))
    closed = await Sessions(channel).Close(_S)
    assert closed.status == "CLOSED" and closed.HasField("closed_at")
    assert not (closed.client_submission or closed.worker_submission)
    assert await refusal(Submitter(channel).CreateSmallTasks(small_task("late"))) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "session 's' is CLOSED; create a new session to submit more work",
    )
    cancelled = submitter_service_pb2.SessionFilter.StatusesRequest(
        statuses=[session_status_pb2.SESSION_STATUS_CANCELED]
    )
    listed = await Submitter(channel).ListSessions(submitter_service_pb2.SessionFilter(included=cancelled))
    assert list(listed.session_ids) == ["s"]


async def test_submission_of_clients_and_workers_is_stopped(channel: grpc.aio.Channel) -> None:
    request = sessions_pb2.StopSubmissionRequest(session_id="s", client=True)
    stopped = await Sessions(channel).StopSubmission(request)
    assert (stopped.status, stopped.client_submission, stopped.worker_submission) == ("RUNNING", False, True)
    code, detail = await refusal(Submitter(channel).CreateSmallTasks(small_task("late")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "takes no more tasks of clients" in detail


async def test_a_purged_session_has_no_data_and_says_so(channel: grpc.aio.Channel, world: World) -> None:
    [claimed] = await world.begin(task("t", "k"))
    await world.commit(done(claimed, {"k": b"data"}))
    await Sessions(channel).Close(_S)
    assert (await Sessions(channel).Purge(_S)).status == "PURGED"

    async def is_empty() -> bool:
        return (await Sessions(channel).Get(_S)).stored_bytes == 0

    await until_true(is_empty)
    assert (await Sessions(channel).Purge(_S)).status == "PURGED"
    stream = Submitter(channel).TryGetResultStream(objects_pb2.ResultRequest(session="s", key="k"))
    [reply] = [reply async for reply in stream]
    assert [error.detail for error in reply.error.errors] == ["its data was deleted"]
    await Submitter(channel).CancelSession(submitter_service_pb2.Session(id="s"))  # has nothing unfinished


async def test_a_deleted_session_is_gone_for_whoever_asks_or_waits(channel: grpc.aio.Channel, world: World) -> None:
    await Submitter(channel).CreateSmallTasks(small_task("t"))
    agent = BareAgent(channel)
    await agent.hello(credit=1)
    await agent.until(lambda: bool(agent.assigned))
    which = submitter_service_pb2.TaskFilter(task=submitter_service_pb2.TaskFilter.IdsRequest(ids=["t"]))
    waiting = asyncio.ensure_future(
        Submitter(channel).WaitForCompletion(submitter_service_pb2.WaitRequest(filter=which))
    )
    deleting = asyncio.ensure_future(Sessions(channel).Delete(_S))
    await agent.until(lambda: bool(agent.cancelled))
    await agent.say(interrupting=agent.assigned)
    async with asyncio.timeout(_SOON_S):
        await deleting
        await waiting
    await complete(agent, agent.assigned[0], "t", 1)  # too late: it is told that this is nobody's any more
    await agent.until(lambda: sum(len(message.settled) for message in agent.said) == 1)

    await Sessions(channel).Delete(_S)
    code, _ = await refusal(Sessions(channel).Pause(_S))
    assert code is grpc.StatusCode.NOT_FOUND
    code, _ = await refusal(Submitter(channel).CreateSmallTasks(small_task("late")))
    assert code is grpc.StatusCode.NOT_FOUND
    options = objects_pb2.TaskOptions(max_retries=1, priority=1)
    options.max_duration.seconds = 1
    again = submitter_service_pb2.CreateSessionRequest(id="s", default_task_option=options)
    assert "exists already" in (await Submitter(channel).CreateSession(again)).error
    await until_true(lambda: is_swept(world))
    assert await world.rows("select 1 from tasks union all select 1 from states union all select 1 from results") == []
    agent.leave()


async def test_another_replica_forgets_a_deleted_session(
    served: Served, channel: grpc.aio.Channel, database_url: str, tmp_path: Path
) -> None:
    async with serving(database_url, tmp_path / "objects") as other, other.connect() as there:
        result = objects_pb2.ResultRequest(session="s", key="k")

        async def said() -> str:
            stream = Submitter(there).TryGetResultStream(result)
            return (await refusal(anext(aiter(stream))))[1]

        assert "result 'k' does not exist" in await said()
        await Sessions(channel).Delete(_S)

        async def is_forgotten() -> bool:
            return "session 's' does not exist" in await said()

        await until_true(is_forgotten)


@pytest.mark.parametrize("step", [SessionStep.PAUSE, SessionStep.DELETE])
async def test_a_step_that_its_replica_left_in_the_middle_is_gone_on_with(
    served: Served, world: World, step: SessionStep
) -> None:
    await world.submit(task("a"), task("b"))
    if step is SessionStep.DELETE:
        await world.cancel_session()
    changes, sweep = await take(world.database, await world.number(), step)
    assert sweep is not None and changes.sessions
    await until_true(lambda: is_swept(world))
    left = await world.rows("select partition from states")
    assert left == ([(" ",), (" ",)] if step is SessionStep.PAUSE else [])


@pytest.mark.parametrize("deletes", [False, True])
async def test_sessions_that_have_ended_go_when_the_settings_say(
    database_url: str, tmp_path: Path, deletes: bool
) -> None:
    async with Database.open(database_url) as database:
        world = World(database)
        await world.session()
        await world.session("running")
        [claimed] = await world.begin(task("t", "k"))
        await world.commit(done(claimed, {"k": b"data"}))
        await world.live(SessionStep.CLOSE)
        settings = {"purge_after_s": 0.0, "delete_after_s": 0.0 if deletes else 1_000.0}
        async with serving(database_url, tmp_path / "objects", **settings):
            expected: list[tuple[object, ...]] = [("running",)] if deletes else [("s",), ("running",)]

            async def is_gone() -> bool:
                sessions = await world.rows("select id from sessions order by session_no")
                return sessions == expected and await world.rows("select 1 from blobs") == [] and await is_swept(world)

            await until_true(is_gone)
