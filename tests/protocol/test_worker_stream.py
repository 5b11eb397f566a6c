"""Part 3: one conversation in full: request ids that interleave, data, slow workers, every way to end a call."""

import asyncio
import itertools
from collections.abc import Iterable

import grpc
import pytest

from protocol.bare_client import RESULT_COMPLETED, Client, reasons
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation, DataRefusedError, Kind, answering_late, by_attempt, echo, failing
from protocol.messages import CHUNK, COMPLETED, ERROR, TIMEOUT, options, out, pattern, task, unique
from protocol.replies import (
    direct_data,
    large_sub_tasks,
    last_result,
    resource,
    result_complete,
    result_data,
    result_key,
    small_sub_tasks,
    whole_result,
)
from protocol.stubs.worker_service_pb2 import ProcessReply

STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


def interleaved(*streams: Iterable[ProcessReply]) -> list[ProcessReply]:
    """One message of each stream in turn, until all are used up."""
    rounds = itertools.zip_longest(*streams)
    return [reply for turn in rounds for reply in turn if reply is not None]


async def test_interleaved_request_ids(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("interleaved")
    contents = {f"{name} {index}": pattern(index * CHUNK + index) for index in range(4)}
    known = unique("known")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.send(
            *interleaved(
                *(whole_result(f"result {key}", key, data) for key, data in contents.items()),
                large_sub_tasks("large 1", [task(f"{name} a", payload=pattern(2 * CHUNK + 1)), task(f"{name} b")]),
                large_sub_tasks("large 2", [task(f"{name} c", payload=b"c")]),
                [small_sub_tasks("small", [task(f"{name} d", payload=b"d")])],
                [resource("data 1", known)],
                [resource("data 2", known)],
            )
        )
        for request_id in ("large 2", "small", "large 1"):
            reply = (await call.answer(request_id)).create_task.reply
            assert reply.WhichOneof("Data") == "successfull", request_id
        for request_id in ("data 2", "data 1"):
            received = [(await call.answer(request_id)).resource.init.data.data]
            while (chunk := (await call.answer(request_id)).resource.data).WhichOneof("type") == "data":
                received.append(chunk.data)
            assert b"".join(received) == pattern(2 * CHUNK)
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit_large(session, task(known, [known], payload=pattern(2 * CHUNK)))
    assert await client.available(session, known) is None
    await client.submit(session, task(name, list(contents)))

    assert await client.finish(session) == {COMPLETED: 6}
    for key, data in contents.items():
        assert await client.result(session, key) == data
    for child, data in (("a", pattern(2 * CHUNK + 1)), ("b", b""), ("c", b"c"), ("d", b"d")):
        assert await client.result(session, out(f"{name} {child}")) == data


async def test_a_request_id_may_be_any_text(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("any")
    ids = [" ", "0", "ü#%", "x" * 5_000, "same", "same"]

    async def behaviour(call: Conversation) -> None:
        await call.task()
        for index, request_id in enumerate(ids):
            await call.send(small_sub_tasks(request_id, [task(f"{name} {index}")]))
            assert (await call.answer(request_id)).create_task.reply.WhichOneof("Data") == "successfull"
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name, []))

    assert await client.finish(session) == {COMPLETED: 1 + len(ids)}


async def test_a_hundred_results(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("hundred")
    keys = [f"{name} {index}" for index in range(100)]

    async def behaviour(call: Conversation) -> None:
        await call.task()
        replies = [whole_result(f"r{index}", key, key.encode()) for index, key in enumerate(keys)]
        await call.send(*interleaved(*replies))
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name, keys))
    await client.finish(session)

    assert set((await client.result_statuses(session, *keys)).values()) == {RESULT_COMPLETED}
    for key in keys:
        assert await client.result(session, key) == key.encode()


@pytest.mark.parametrize("pieces", [[], [b""], [b"", b"", b""], [b"", b"x", b""]], ids=["none", "1", "3", "mixed"])
async def test_empty_chunks(client: Client, workers: Workers, pieces: list[bytes]) -> None:
    session, name = await client.session(), unique("empty")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.send(result_key("r", out(name)), *(result_data("r", piece) for piece in pieces))
        await call.send(result_complete("r"), last_result("r"))
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b"".join(pieces)


async def test_results_that_end_without_last_result(client: Client, workers: Workers) -> None:
    """Several results under one request id: legal or a violation, but never half of them."""
    session, name = await client.session(), unique("series")
    keys = [f"{name} {index}" for index in range(3)]

    async def behaviour(call: Conversation) -> None:
        await call.task()
        for key in keys:
            await call.send(result_key("r", key), result_data("r", b"x"), result_complete("r"))
        await call.send(last_result("r"))
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name, keys))
    await client.finish(session)

    assert len(set((await client.result_statuses(session, *keys)).values())) == 1


async def test_a_worker_that_answers_slowly(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("slow")
    data = pattern(30)

    async def behaviour(call: Conversation) -> None:
        await call.task()
        replies = [result_key("r", out(name)), *(result_data("r", data[n : n + 1]) for n in range(30))]
        for reply in [*replies, result_complete("r"), last_result("r")]:
            await call.send(reply)
            await asyncio.sleep(0.02)  # The slowness that is tested.
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == data


@pytest.mark.parametrize("code", STATUSES, ids=lambda code: code.name)
async def test_a_call_that_ends_with_an_error_status(client: Client, workers: Workers, code: grpc.StatusCode) -> None:
    session, name = await client.session(default=options(max_retries=1)), unique("status")
    workers.behave(by_attempt(failing("said by the worker", code), echo), name)
    lost = unique("status-lost")
    workers.behave(failing("said by the worker", code), lost)
    await client.submit(session, task(name), task(lost))
    await client.finish(session)

    assert await client.statuses(name, lost) == {name: COMPLETED, lost: ERROR}
    error = await client.available(session, out(lost))
    assert error is not None and [entry.task_status for entry in error.errors] == [ERROR, ERROR]
    assert all("said by the worker" in reason for reason in reasons(error))
    assert len(workers.attempts_of(name)) == len(workers.attempts_of(lost)) == 2


async def test_a_call_that_ends_before_the_task_was_read(client: Client, workers: Workers) -> None:
    session, name = await client.session(default=options(max_retries=1)), unique("unread")

    async def at_once(call: Conversation) -> None:
        await call.fail("not read at all")

    workers.behave(by_attempt(at_once, echo), name)
    await client.submit_large(session, task(name, payload=pattern(40 * CHUNK)))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == pattern(40 * CHUNK)


async def test_output_before_the_task_was_read(client: Client, workers: Workers) -> None:
    """A worker may know its answer at once: Output ends the attempt whatever is still to be sent."""
    session, name = await client.session(), unique("early")

    async def at_once(call: Conversation) -> None:
        call.attempt.strict = False
        await call.send(*whole_result("r", out(name), b"known before"))
        await call.ok()

    workers.behave(at_once, name)
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b"known before"


async def test_output_with_answers_still_to_come(client: Client, workers: Workers) -> None:
    session, name, known = await client.session(), unique("crossing"), unique("crossing-known")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        call.attempt.strict = False
        await call.send(*(resource(f"data {index}", known) for index in range(5)))
        await call.send(*large_sub_tasks("s", [task(f"{name} child")]))
        await call.send_result(out(name), b"")
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit_large(session, task(known, [known], payload=pattern(5 * CHUNK)))
    assert await client.available(session, known) is None
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is None
    assert await client.finish(session) == {COMPLETED: 3}


async def test_data_of_another_session_is_unknown(client: Client, workers: Workers) -> None:
    other, session, name, key = await client.session(), await client.session(), unique("foreign"), unique("key")
    refusals: list[str] = []

    async def behaviour(call: Conversation) -> None:
        await call.task()
        kinds: list[Kind] = ["resource", "common_data", "direct_data"]
        for kind in kinds:
            with pytest.raises(DataRefusedError) as refusal:
                await call.data(kind, key)
            refusals.append(str(refusal.value))
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(other, task(unique("maker"), [key], payload=b"theirs"))
    assert await client.available(other, key) is None
    await client.submit(session, task(name, []))

    await client.until(name, COMPLETED)
    assert len(refusals) == 3


async def test_resource_reads_what_was_completed_meanwhile(client: Client, workers: Workers) -> None:
    session, name, late = await client.session(), unique("meanwhile"), unique("late")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        with pytest.raises(DataRefusedError):
            await call.data("resource", late)
        with pytest.raises(DataRefusedError):
            await call.data("common_data", late)
        await client.submit(session, task(f"{name} other", [late], payload=b"now"))
        assert await client.available(session, late) is None
        assert await call.data("resource", late) == b"now"
        assert await call.data("common_data", late) == b"now"
        await call.send_result(out(name), await call.data("direct_data", late))
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b"now"


async def test_data_requests_with_blank_keys(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("blank")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        kinds: list[Kind] = ["resource", "common_data", "direct_data"]
        for kind, key in itertools.product(kinds, ["", " ", "x" * 2_000, "nul\0"]):
            with pytest.raises(DataRefusedError):
                await call.data(kind, key)
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name, []))

    await client.until(name, COMPLETED)


async def test_a_worker_that_never_reads(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, name, after = await client.session(), unique("deaf"), unique("deaf-after")

    async def deaf(call: Conversation) -> None:
        await asyncio.Event().wait()

    workers.behave(deaf, name)
    await client.submit_large(
        session, task(name, payload=pattern(200 * CHUNK)), task_options=options(max_duration_s=1.0)
    )
    await client.submit(session, task(after))

    error = await client.available(session, out(name))

    assert error is not None and [entry.task_status for entry in error.errors] == [TIMEOUT]
    assert await client.available(session, out(after)) is None


async def test_a_worker_that_reads_no_answers(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, name, known = await client.session(), unique("deaf"), unique("deaf-known")

    async def deaf(call: Conversation) -> None:
        await call.send(*(resource(f"data {index}", known) for index in range(50)))
        await asyncio.Event().wait()

    workers.behave(deaf, name)
    await client.submit_large(session, task(known, [known], payload=pattern(20 * CHUNK)))
    assert await client.available(session, known) is None
    await client.submit(session, task(name), task_options=options(max_duration_s=1.0))

    assert await client.available(session, out(name)) is not None
    await client.submit(session, task(unique("deaf-after")))
    assert await client.finish(session) == {COMPLETED: 2, TIMEOUT: 1}


async def test_a_worker_that_answers_after_its_deadline(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, name, after = await client.session(), unique("late"), unique("late-after")
    answered = asyncio.Event()

    workers.behave(answering_late(out(name), b"too late", answered), name)
    await client.submit(session, task(name), task_options=options(max_duration_s=0.3))
    await client.submit(session, task(after, payload=b"served"))

    error = await client.available(session, out(name))

    assert error is not None and [entry.task_status for entry in error.errors] == [TIMEOUT]
    assert await client.available(session, out(after)) is None
    async with asyncio.timeout(10):
        await answered.wait()
    assert await client.statuses(name, after) == {name: TIMEOUT, after: COMPLETED}
    [reply] = await client.result_replies(session, out(name))
    assert reply.error.task_id == name


async def test_max_duration_counts_from_the_start_on_a_worker(solo: Stage) -> None:
    client, workers = solo.client, solo.workers
    session, busy, waits = await client.session(), unique("busy"), unique("waits")

    async def a_while(call: Conversation) -> None:
        await call.task()
        await asyncio.sleep(0.6)  # Longer than the other task's max_duration: it must not count.
        await call.ok()

    workers.behave(a_while, busy)
    await client.submit(session, task(busy, []))
    await client.submit(session, task(waits), task_options=options(max_duration_s=0.4))

    assert await client.finish(session) == {COMPLETED: 2}
    assert len(workers.attempts_of(waits)) == 1


async def test_direct_data_before_anything(client: Client, workers: Workers) -> None:
    session, name, key = await client.session(), unique("direct"), unique("direct-key")

    async def behaviour(call: Conversation) -> None:
        await call.task()
        await call.send(direct_data("d", key))
        reply = (await call.answer("d")).direct_data
        assert reply.init.key == key and reply.init.error
        await call.ok()

    workers.behave(behaviour, name)
    await client.submit(session, task(name, []))

    await client.until(name, COMPLETED)
