"""Part 3: sub-tasks of a worker, accepted and refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from protocol.bare_client import ABORTED, RESULT_COMPLETED, Client, reasons
from protocol.bare_worker import Workers
from protocol.conversation import Behaviour, Conversation, echo
from protocol.messages import CHUNK, COMPLETED, ERROR, by_sessions, options, out, pattern, task, unique
from protocol.replies import sub_task_complete, sub_task_header, sub_tasks_init
from protocol.stubs.objects_pb2 import CreateTaskReply, TaskOptions, TaskRequest
from protocol.stubs.worker_service_pb2 import ProcessReply

WAYS = ["small", "large"]


@dataclass(frozen=True)
class Refused:
    """A batch that is refused.

    Attributes:
        tasks: All of it.
        offenders: Ids that the answer names; None: those of all the tasks.
        task_options: None takes the session's.
    """

    tasks: Sequence[TaskRequest]
    offenders: Sequence[str] | None = None
    task_options: TaskOptions | None = None
    small_only: bool = False


def _refused(name: str) -> dict[str, Refused]:
    fine = task(f"{name} fine")
    long = f"{name} {'x' * 1_024}"
    return {
        "no tasks": Refused([]),
        "blank id": Refused([fine, task(" ", [f"{name} k"])], [" "]),
        "id too long": Refused([fine, task(long, [f"{name} k"])], [long]),
        "id twice": Refused([fine, task(f"{name} a", ["x"]), task(f"{name} a", ["y"])], [f"{name} a"]),
        "key twice": Refused([fine, task(f"{name} a", ["x"]), task(f"{name} b", ["x"])], [f"{name} b"]),
        "key twice in a task": Refused([fine, task(f"{name} a", ["x", "x"])], [f"{name} a"]),
        "blank key": Refused([fine, task(f"{name} a", [""])], [f"{name} a"]),
        "blank dependency": Refused([fine, task(f"{name} a", needs=[""])], [f"{name} a"]),
        "priority 0": Refused([fine, task(f"{name} a")], None, options(priority=0)),
        "priority 100": Refused([fine, task(f"{name} a")], None, options(priority=100)),
        "max_retries -1": Refused([fine], None, options(max_retries=-1)),
        "no max_duration": Refused([fine], None, TaskOptions(priority=1)),
        "payload too long": Refused(
            [fine, task(f"{name} a", payload=pattern(CHUNK + 1))], [f"{name} a"], small_only=True
        ),
        "key already sent": Refused([fine, task(f"{name} a", [f"{name} sent"])], [f"{name} a"]),
        "key already delegated": Refused([fine, task(f"{name} a", [f"{name} delegated"])], [f"{name} a"]),
        "id of an earlier batch": Refused([fine, task(f"{name} heir", [f"{name} k"])], [f"{name} heir"]),
        "key of an earlier batch": Refused([fine, task(f"{name} a", [f"{name} heir's own"])], [f"{name} a"]),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", _refused(""))
async def test_a_refused_batch(client: Client, workers: Workers, case: str, way: str) -> None:
    session, name = await client.session(), unique("refused")
    refused = _refused(name)[case]
    if refused.small_only and way == "large":
        refused = Refused([])
    answers: list[CreateTaskReply] = []
    heir = task(f"{name} heir", [f"{name} delegated", f"{name} heir's own"], payload=b"inherited")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.send_result(f"{name} sent", b"sent before")
        assert (await call.sub_tasks([heir])).WhichOneof("Data") == "successfull"
        answers.append(await call.sub_tasks(refused.tasks, refused.task_options, large=way == "large"))
        await call.send_result(f"{name} after", b"sent after")
        await call.ok()

    workers.behave(behaviour, name)
    keys = [f"{name} sent", f"{name} delegated", f"{name} after"]
    await client.submit(session, task(name, keys))
    assert await client.finish(session) == {COMPLETED: 2}

    [answer] = answers
    assert answer.WhichOneof("Data") == "non_successfull_ids"
    named = set(answer.non_successfull_ids.ids)
    if refused.offenders is None:
        assert named == {each.id for each in refused.tasks}
    else:
        assert set(refused.offenders) <= named and f"{name} fine" not in named
    assert await client.listed(by_sessions(session)) == [name, heir.id]
    assert await client.statuses(f"{name} fine", f"{name} a", f"{name} b") == {}
    found = [await client.result(session, key) for key in keys]
    assert found == [b"sent before", b"inherited", b"sent after"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clash", ["id", "key"])
async def test_a_clash_with_what_exists(client: Client, workers: Workers, clash: str, way: str) -> None:
    """Part 3: refused at once, or found at commit; then the task is ERROR, finally."""
    session, name, taken = await client.session(default=options(max_retries=3)), unique("clash"), unique("taken")
    child = task(taken, payload=b"thief") if clash == "id" else task(f"{name} child", [out(taken)])
    answers: list[CreateTaskReply] = []

    async def behaviour(call: Conversation) -> None:
        await call.task()
        answers.append(await call.sub_tasks([task(f"{name} fine"), child], large=way == "large"))
        await call.send_result(out(name), b"result")
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(taken, payload=b"original"))
    await client.submit(session, task(name))
    error = await client.available(session, out(name))
    await client.finish(session)

    if answers[0].WhichOneof("Data") == "successfull":
        [reason] = reasons(error)
        assert (taken if clash == "id" else out(taken)) in reason
        assert await client.status(name) == ERROR
    else:
        assert list(answers[0].non_successfull_ids.ids) == [child.id]
        assert error is None and await client.status(name) == COMPLETED
    assert len(workers.attempts_of(name)) == 1
    assert await client.listed(by_sessions(session)) == [taken, name]
    assert await client.result(session, out(taken)) == b"original"


@pytest.mark.parametrize("way", WAYS)
async def test_options_of_sub_tasks(client: Client, workers: Workers, way: str) -> None:
    session = await client.session(default=options(free={"from": "session"}, max_retries=2))
    name = unique("options")
    given: dict[str, dict[str, str]] = {}

    async def behaviour(call: Conversation) -> None:
        task_given = await call.task()
        given[call.attempt.task_id] = task_given.options
        if call.attempt.task_id == name:
            own = options(free={"from": "worker"})
            await call.sub_tasks([task(f"{name} default")], large=way == "large")
            await call.sub_tasks([task(f"{name} own")], own, large=way == "large")
        await call.ok()

    workers.behave(behaviour, session)
    await client.submit(session, task(name), task_options=options(free={"from": "client"}))
    await client.finish(session)

    assert given == {
        name: {"from": "client"},
        f"{name} default": {"from": "session"},
        f"{name} own": {"from": "worker"},
    }


@pytest.mark.parametrize("way", WAYS)
async def test_sub_tasks_with_payloads_and_dependencies(client: Client, workers: Workers, way: str) -> None:
    session, name = await client.session(), unique("payloads")
    size = CHUNK if way == "small" else 3 * CHUNK + 1
    received: dict[str, tuple[bytes, dict[str, bytes]]] = {}

    async def parent(call: Conversation) -> None:
        await call.task()
        await call.send_result(f"{name} own", b"made by the parent")
        batch = [
            task(f"{name} last", payload=b"l", needs=[f"{name} first.out", f"{name} own", f"{name} input"]),
            task(f"{name} first", payload=pattern(size)),
            task(f"{name} none", []),
        ]
        if way == "large":
            batch.pop()  # Headers must expect something (legacy).
        assert (await call.sub_tasks(batch, large=way == "large")).WhichOneof("Data") == "successfull"
        await call.ok()

    async def child(call: Conversation) -> None:
        given = await call.task()
        received[given.task_id] = (given.payload, given.data)
        for key in given.expected_output_keys:
            await call.send_result(key, given.payload)
        await call.ok()

    workers.behave(parent, name)
    workers.behave(child, session)
    await client.submit(session, task(f"{name} input", [f"{name} input"], payload=b"submitted"))
    await client.submit(session, task(name, [f"{name} own"]))
    counts = await client.finish(session)

    assert counts == {COMPLETED: 5 if way == "small" else 4}
    payload, data = received[f"{name} last"]
    assert payload == b"l"
    assert list(data.items()) == [
        (f"{name} first.out", pattern(size)),
        (f"{name} own", b"made by the parent"),
        (f"{name} input", b"submitted"),
    ]


async def test_a_task_that_depends_on_the_key_of_a_sub_task(client: Client, workers: Workers) -> None:
    session, name, reader = await client.session(), unique("parent"), unique("reader")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.sub_tasks([task(f"{name} child", payload=b"of the child")])
        await call.ok()

    async def keep(call: Conversation) -> None:
        given = await call.task()
        await call.send_result(out(reader), given.data[f"{name} child.out"])
        await call.ok()

    workers.behave(behaviour, name)
    workers.behave(keep, reader)
    await client.submit(session, task(reader, needs=[f"{name} child.out"]))
    await client.submit(session, task(name, []))

    assert await client.available(session, out(reader)) is None
    assert await client.result(session, out(reader)) == b"of the child"


async def test_a_sub_task_left_open_is_a_violation(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("open")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        child = task(f"{name} child")
        await call.send(sub_tasks_init("s"), sub_task_header("s", child), sub_task_complete("s"))
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is not None
    assert await client.status(name) == ERROR
    assert await client.statuses(f"{name} child") == {}


async def test_no_request_id_is_a_violation(client: Client, workers: Workers) -> None:
    session = await client.session()
    replies = [
        ProcessReply(create_small_task=ProcessReply.CreateSmallTaskRequest(task_requests=[task(unique("child"))])),
        ProcessReply(create_large_task=sub_tasks_init("").create_large_task),
        ProcessReply(resource=ProcessReply.DataRequest(key="k")),
        ProcessReply(common_data=ProcessReply.DataRequest(key="k")),
        ProcessReply(direct_data=ProcessReply.DataRequest(key="k")),
    ]
    names = [unique("no-id") for _ in replies]

    def saying_it(reply: ProcessReply) -> Behaviour:
        async def behaviour(call: Conversation) -> None:
            await call.task()
            call.attempt.strict = False
            await call.send(reply)
            await call.ok()

        return behaviour

    for name, reply in zip(names, replies, strict=True):
        workers.behave(saying_it(reply), name)
    await client.submit(session, *map(task, names))

    assert await client.finish(session) == {ERROR: len(names)}
    for name in names:
        assert "request_id" in reasons(await client.available(session, out(name)))[0]


async def test_a_parent_without_its_own_keys_makes_children(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("many")
    children = [unique("many-child") for _ in range(500)]

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.sub_tasks([task(child, payload=child.encode()) for child in children], large=True)
        await call.ok()

    workers.behave(behaviour, name)
    workers.behave(echo, session)
    await client.submit(session, task(name, []))
    assert await client.finish(session) == {COMPLETED: 501}

    assert await client.listed(by_sessions(session)) == [name, *children]
    statuses = await client.result_statuses(session, *map(out, children))
    assert set(statuses.values()) == {RESULT_COMPLETED}
    assert ABORTED not in statuses.values()
