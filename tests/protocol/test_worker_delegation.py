"""Part 3: an expected output of a parent passes to its sub-task."""

from protocol.bare_client import Client, reasons
from protocol.bare_worker import Workers
from protocol.conversation import Conversation, by_attempt, erring
from protocol.messages import COMPLETED, ERROR, options, out, task, unique


async def test_a_result_before_and_after_a_delegation(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("mixed")
    keys = [f"{name} {index}" for index in range(4)]

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.send_result(keys[0], b"before")
        await call.sub_tasks([task(f"{name} child", [keys[1], keys[3]], payload=b"delegated")])
        await call.send_result(keys[2], b"after")
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name, keys))
    await client.finish(session)

    found = [await client.result(session, key) for key in keys]
    assert found == [b"before", b"delegated", b"after", b"delegated"]


async def test_a_delegated_key_is_no_longer_the_parents(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("foreign")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        call.attempt.strict = False
        await call.sub_tasks([task(f"{name} child", [out(name)])])
        await call.send_result(out(name), b"too late")
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name))

    [reason] = reasons(await client.available(session, out(name)))
    assert out(name) in reason
    assert await client.status(name) == ERROR
    assert await client.statuses(f"{name} child") == {}


async def test_delegation_of_any_depth(client: Client, workers: Workers) -> None:
    session, name, depth = await client.session(), unique("depth"), 12
    owners: list[str] = []

    async def behaviour(call: Conversation) -> None:
        given = await call.task()
        level = int(given.payload)
        [reply] = await client.result_replies(session, name)
        owners.append(reply.not_completed_task)
        if level < depth:
            await call.sub_tasks([task(f"{name} {level + 1}", [name], payload=b"%d" % (level + 1))])
        else:
            await call.send_result(name, b"at last")
        await call.ok()

    workers.behave(behaviour, session)
    await client.submit(session, task(f"{name} 0", [name], payload=b"0"))

    assert await client.available(session, name) is None
    assert await client.result(session, name) == b"at last"
    assert owners == [f"{name} {level}" for level in range(depth + 1)]
    assert await client.finish(session) == {COMPLETED: depth + 1}


async def test_an_heir_that_fails(client: Client, workers: Workers) -> None:
    session, name, child = await client.session(), unique("heir"), unique("heir-child")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.sub_tasks([task(child, [out(name)])])
        await call.ok()

    workers.behave(behaviour, name)
    workers.behave(erring("the heir fails"), child)
    await client.submit(session, task(name))

    error = await client.available(session, out(name))

    assert error is not None and error.task_id == child
    assert "the heir fails" in reasons(error)[0]
    assert await client.statuses(name, child) == {name: COMPLETED, child: ERROR}


async def test_an_heir_that_is_cancelled(client: Client, workers: Workers) -> None:
    session, name, child = await client.session(), unique("heir"), unique("heir-child")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.sub_tasks([task(child, [out(name)], needs=["never announced"])])
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name))
    await client.until(name, COMPLETED)

    await client.cancel_session(session)

    error = await client.available(session, out(name))
    assert error is not None and error.task_id == child


async def test_sub_tasks_of_a_failed_attempt_never_exist(client: Client, workers: Workers) -> None:
    session, name = await client.session(default=options(max_retries=1)), unique("again")

    async def create(call: Conversation) -> None:
        await call.task()
        await call.send_result(f"{name} sent", call.attempt.task_id.encode())
        await call.sub_tasks([task(f"{name} child", [f"{name} delegated"], payload=call.attempt.task_id.encode())])

    async def create_and_fail(call: Conversation) -> None:
        await create(call)
        await call.fail("after all that")

    async def create_and_finish(call: Conversation) -> None:
        await create(call)
        await call.ok()

    workers.behave(by_attempt(create_and_fail, create_and_finish), name)
    await client.submit(session, task(name, [f"{name} sent", f"{name} delegated"]))
    assert await client.finish(session) == {COMPLETED: 2}

    assert await client.result(session, f"{name} sent") == f"{name}###1".encode()
    assert await client.result(session, f"{name} delegated") == f"{name}###1".encode()
    assert len(workers.attempts_of(f"{name} child")) == 1
