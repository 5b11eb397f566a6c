"""Part 2: filters and look-ups, every field broken in turn, and what they return."""

from collections.abc import Awaitable, Callable

import grpc
import pytest

from protocol.bare_client import RESULT_COMPLETED, Client, perhaps_refused, refused
from protocol.bare_worker import Workers
from protocol.conversation import by_attempt, echo, erring, failing
from protocol.messages import (
    CHUNK,
    COMPLETED,
    ERROR,
    SUBMITTED,
    by_sessions,
    by_tasks,
    options,
    out,
    task,
    unique,
)
from protocol.stubs.objects_pb2 import Empty, ResultRequest
from protocol.stubs.session_status_pb2 import SESSION_STATUS_CANCELED, SESSION_STATUS_RUNNING
from protocol.stubs.submitter_service_pb2 import (
    GetResultStatusRequest,
    GetTaskStatusRequest,
    SessionFilter,
    TaskFilter,
    WaitRequest,
)

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

_IDS = TaskFilter.IdsRequest
_STATUSES = TaskFilter.StatusesRequest

#: Filters that break a rule, and the field that the detail names.
BROKEN_FILTERS = {
    "nothing": (TaskFilter(), "ids"),
    "statuses alone": (TaskFilter(included=_STATUSES(statuses=[COMPLETED])), "ids"),
    "no session": (TaskFilter(session=_IDS()), "session"),
    "no task": (TaskFilter(task=_IDS()), "task"),
    "included empty": (TaskFilter(task=_IDS(ids=["t"]), included=_STATUSES()), "included"),
    "excluded empty": (TaskFilter(session=_IDS(ids=["s"]), excluded=_STATUSES()), "excluded"),
}

CALLS: dict[str, Callable[[Client, TaskFilter], Awaitable[object]]] = {
    "ListTasks": lambda client, tasks: client.stub.ListTasks(tasks, timeout=5),
    "CountTasks": lambda client, tasks: client.stub.CountTasks(tasks, timeout=5),
    "CancelTasks": lambda client, tasks: client.stub.CancelTasks(tasks, timeout=5),
    "WaitForCompletion": lambda client, tasks: client.stub.WaitForCompletion(WaitRequest(filter=tasks), timeout=5),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("case", BROKEN_FILTERS)
async def test_broken_filter(client: Client, call: str, case: str) -> None:
    broken, field = BROKEN_FILTERS[case]
    with refused(INVALID_ARGUMENT, naming=[field]):
        await CALLS[call](client, broken)


async def test_wait_without_a_filter(client: Client) -> None:
    with refused(INVALID_ARGUMENT, naming=["filter"]):
        await client.stub.WaitForCompletion(WaitRequest(), timeout=5)


@pytest.mark.parametrize("number", [0, 77])
@pytest.mark.parametrize("call", CALLS)
async def test_a_status_that_no_task_has(client: Client, call: str, number: int) -> None:
    """The protocol is silent on it: an empty answer or a refusal, never a bug's code."""
    tasks = by_tasks(unique("nobody"))
    tasks.included.statuses.append(number)  # type: ignore[arg-type]
    with perhaps_refused(INVALID_ARGUMENT):
        await CALLS[call](client, tasks)


@pytest.mark.parametrize(("session", "key"), [("", "k"), ("s", ""), ("", ""), (" ", "k"), ("s", " "), ("s\0", "k\0")])
async def test_blank_names_in_look_ups(client: Client, session: str, key: str) -> None:
    request = ResultRequest(session=session, key=key)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.stub.WaitForAvailability(request, timeout=5),
        lambda: client.result_replies(session, key),
    ]
    if not key.strip("\0 "):
        calls.append(lambda: client.stub.TryGetTaskOutput(request, timeout=5))
    for call in calls:
        with refused(NOT_FOUND, INVALID_ARGUMENT):
            await call()


async def test_empty_look_ups(client: Client) -> None:
    assert list((await client.stub.GetTaskStatus(GetTaskStatusRequest())).id_statuses) == []
    session = await client.session()
    assert list((await client.stub.GetResultStatus(GetResultStatusRequest(session_id=session))).id_statuses) == []


async def test_configuration(client: Client) -> None:
    assert (await client.stub.GetServiceConfiguration(Empty())).data_chunk_max_size == CHUNK


async def test_status_look_ups_keep_the_order_of_the_request(client: Client) -> None:
    session = await client.session()
    names = [unique("order") for _ in range(5)]
    await client.submit(session, *map(task, names))
    await client.finish(session)
    asked = [names[3], names[0], unique("nobody"), names[3], names[4], names[0], names[1]]

    tasks = await client.stub.GetTaskStatus(GetTaskStatusRequest(task_ids=asked))
    keys = [out(name) for name in asked]
    results = await client.stub.GetResultStatus(GetResultStatusRequest(session_id=session, result_ids=keys))

    expected = [names[3], names[0], names[4], names[1]]
    assert [(entry.task_id, entry.status) for entry in tasks.id_statuses] == [(name, COMPLETED) for name in expected]
    assert [(entry.result_id, entry.status) for entry in results.id_statuses] == [
        (out(name), RESULT_COMPLETED) for name in expected
    ]


async def test_results_are_looked_up_in_their_session(client: Client) -> None:
    session, name = await client.session(), unique("elsewhere")
    await client.submit(session, task(name))
    assert await client.available(session, out(name)) is None

    assert await client.result_statuses(await client.session(), out(name)) == {}
    assert await client.result_statuses(unique("nobody"), out(name)) == {}
    with refused(NOT_FOUND):
        await client.result(await client.session(), out(name))
    # The session is ignored here (legacy).
    assert (await client.output(name, unique("nobody"))).WhichOneof("type") == "ok"


async def test_lists_and_counts_join_both_parts(client: Client, workers: Workers) -> None:
    one, two = await client.session(), await client.session()
    good, bad, waits = [unique("good") for _ in range(3)], unique("bad"), unique("waits")
    workers.behave(erring(), bad)
    await client.submit(one, task(good[0]), task(bad))
    await client.submit(two, task(good[1]))
    await client.submit(one, task(waits, needs=["never announced"]))
    await client.submit(two, task(good[2]))
    await client.wait(by_tasks(*good, bad))

    assert await client.listed(by_sessions(one, two)) == [good[0], bad, good[1], waits, good[2]]
    assert await client.listed(by_sessions(two, one, included=[COMPLETED])) == good
    assert await client.listed(by_sessions(one, excluded=[COMPLETED, ERROR])) == [waits]
    assert await client.listed(by_tasks(waits, bad, good[0], excluded=[SUBMITTED])) == [good[0], bad]
    assert await client.listed(by_tasks(good[2], good[2], good[0])) == [good[0], good[2]]
    assert await client.counts(by_sessions(one, two)) == {COMPLETED: 3, ERROR: 1, SUBMITTED: 1}
    assert await client.counts(by_sessions(one, included=[SUBMITTED, ERROR])) == {ERROR: 1, SUBMITTED: 1}
    assert await client.counts(by_tasks(good[0], good[1], waits, excluded=[SUBMITTED])) == {COMPLETED: 2}
    assert await client.counts(by_tasks(good[0], included=[ERROR])) == {}
    await client.cancel_session(one)


async def test_a_large_batch_is_listed_in_its_order(client: Client) -> None:
    session = await client.session()
    names = [unique("list") for _ in range(1_000)]
    names.sort(key=lambda name: name[::-1])
    await client.submit(session, *(task(name, [], needs=["never announced"]) for name in names))

    assert await client.listed(by_sessions(session)) == names
    assert await client.listed(by_tasks(*sorted(names))) == names
    assert await client.counts(by_tasks(*names, unique("nobody"))) == {SUBMITTED: 1_000}
    await client.cancel_session(session)


async def test_sessions_are_listed_in_the_order_of_creation(client: Client) -> None:
    names = [unique(stem) for stem in "zmabq"]
    for name in names:
        await client.named_session(name)
    await client.cancel_session(names[1])
    await client.cancel_session(names[3])

    async def listed(sessions: SessionFilter) -> list[str]:
        return list((await client.stub.ListSessions(sessions, timeout=5)).session_ids)

    running = SessionFilter.StatusesRequest(statuses=[SESSION_STATUS_RUNNING])
    cancelled = SessionFilter.StatusesRequest(statuses=[SESSION_STATUS_CANCELED])
    assert await listed(SessionFilter(sessions=sorted(names))) == names
    assert await listed(SessionFilter(sessions=[*names, unique("nobody")], included=running)) == names[::2]
    assert await listed(SessionFilter(sessions=names, excluded=running)) == names[1::2]
    assert await listed(SessionFilter(sessions=names, included=cancelled)) == names[1::2]
    everything = await listed(SessionFilter())
    assert [name for name in everything if name in names] == names
    assert set(names[::2]) <= set(await listed(SessionFilter(included=running)))
    assert not set(names[::2]) & set(await listed(SessionFilter(excluded=running)))


async def test_output_of_an_unfinished_task_is_never_ok(client: Client) -> None:
    session, name = await client.session(), unique("unfinished")
    await client.submit(session, task(name, needs=["never announced"]))

    output = await client.output(name)

    assert "not finished" in output.error.details and "SUBMITTED" in output.error.details.upper()
    await client.cancel_session(session)
    assert (await client.output(name)).WhichOneof("type") == "error"


async def test_an_attempt_id_is_an_alias_of_its_task(client: Client, workers: Workers) -> None:
    session, name = await client.session(default=options(max_retries=1)), unique("alias")
    workers.behave(by_attempt(failing(), echo), name)
    await client.submit(session, task(name))
    await client.until(name, COMPLETED)
    alias = f"{name}###1"

    assert (await client.output(alias)).WhichOneof("type") == "ok"
    assert list((await client.statuses(alias)).values()) == [COMPLETED]
    assert await client.listed(by_tasks(alias)) == [name]
    assert await client.counts(by_tasks(alias, name)) == {COMPLETED: 1}
    assert await client.wait(by_tasks(alias)) == {COMPLETED: 1}
    await client.cancel_tasks(by_tasks(alias))
    assert await client.status(name) == COMPLETED


async def test_a_task_may_be_called_like_an_attempt(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("alias")
    alias = f"{name}###1"
    workers.behave(erring(), name)
    workers.behave(echo, alias)
    await client.submit(session, task(name))
    await client.submit(session, task(alias))
    await client.finish(session)

    assert await client.statuses(name, alias) == {name: ERROR, alias: COMPLETED}
    assert (await client.output(alias)).WhichOneof("type") == "ok"
