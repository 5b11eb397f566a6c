"""Golden scenarios G23 to G27: sizes, grammar and the worker's stream (part 5)."""

import asyncio

import grpc
import pytest

from protocol.attempt_record import kind_of
from protocol.bare_client import ABORTED, RESULT_COMPLETED, Client, reasons, refused
from protocol.bare_worker import Workers
from protocol.conftest import Stage
from protocol.conversation import Conversation, DataRefusedError, Kind, by_attempt, echo, held, saying
from protocol.messages import (
    CHUNK,
    COMPLETED,
    ERROR,
    init_large,
    large_data,
    large_data_complete,
    large_header,
    last_task,
    options,
    out,
    pattern,
    task,
    unique,
)
from protocol.replies import (
    last_result,
    output_ok,
    result_complete,
    result_data,
    result_key,
    whole_result,
)
from protocol.stubs.objects_pb2 import DataChunk, InitTaskRequest
from protocol.stubs.submitter_service_pb2 import CreateLargeTaskRequest
from protocol.stubs.worker_service_pb2 import ProcessReply

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("size", [0, CHUNK])
async def test_g23_payload_of_a_small_task(client: Client, size: int) -> None:
    session, name = await client.session(), unique("g23")

    await client.submit(session, task(name, payload=pattern(size)))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == pattern(size)


async def test_g23_payload_of_a_small_task_too_long(client: Client) -> None:
    session, name, fine = await client.session(), unique("g23"), unique("g23-fine")

    with refused(INVALID_ARGUMENT, naming=["payload", "84001"]):
        await client.submit(session, task(fine), task(name, payload=pattern(CHUNK + 1)))

    assert await client.statuses(name, fine) == {}


@pytest.mark.parametrize(("size", "accepted"), [(CHUNK, True), (CHUNK + 1, False)])
async def test_g23_chunk_of_a_client(client: Client, size: int, accepted: bool) -> None:
    session, name = await client.session(), unique("g23")
    messages = [
        init_large(session),
        large_header(task(name)),
        large_data(pattern(size)),
        large_data_complete(),
        last_task(),
    ]
    if accepted:
        await client.stream_large(messages, half_close=False)
        assert await client.available(session, out(name)) is None
        assert await client.result(session, out(name)) == pattern(size)
    else:
        with refused(INVALID_ARGUMENT, naming=["84001"]):
            await client.stream_large(messages, half_close=False)
        assert await client.statuses(name) == {}


@pytest.mark.parametrize(("size", "accepted"), [(CHUNK, True), (CHUNK + 1, False)])
async def test_g23_chunk_of_a_worker(client: Client, workers: Workers, size: int, accepted: bool) -> None:
    session, name = await client.session(), unique("g23")
    workers.behave(
        saying(
            result_key("r", out(name)),
            result_data("r", pattern(size)),
            result_complete("r"),
            last_result("r"),
            output_ok(),
        ),
        name,
    )
    await client.submit(session, task(name))

    error = await client.available(session, out(name))

    if accepted:
        assert error is None
        assert await client.result(session, out(name)) == pattern(size)
    else:
        assert "84001" in reasons(error)[0]
        assert await client.status(name) == ERROR


def _breaches(session: str, first: str, second: str) -> dict[str, list[CreateLargeTaskRequest]]:
    start, end, complete = init_large(session), last_task(), large_data_complete()
    one, two, data = large_header(task(first)), large_header(task(second)), large_data(b"x")
    return {
        "nothing at all": [],
        "no task": [start],
        "no task, last_task": [start, end],
        "no init_request": [one, data, complete, end],
        "data first": [data],
        "last_task first": [end],
        "init_request twice": [start, start],
        "init_request between tasks": [start, one, complete, start],
        "init_request inside a task": [start, one, start],
        "data outside a task": [start, data],
        "data_complete outside a task": [start, complete],
        "data after data_complete": [start, one, complete, data],
        "data_complete twice": [start, one, complete, complete],
        "header inside a task": [start, one, two, complete, end],
        "header after data without data_complete": [start, one, data, two, complete, end],
        "last_task inside a task": [start, one, data, end],
        "ends inside a task": [start, one],
        "ends inside the second task": [start, one, complete, two, data],
        "empty message": [start, one, complete, CreateLargeTaskRequest()],
        "empty init_task": [start, CreateLargeTaskRequest(init_task=InitTaskRequest())],
        "empty task_payload": [start, one, CreateLargeTaskRequest(task_payload=DataChunk())],
    }


@pytest.mark.parametrize("breach", _breaches("", "", ""))
async def test_g24_breach_of_the_grammar(client: Client, breach: str) -> None:
    session, first, second = await client.session(), unique("g24-a"), unique("g24-b")

    with refused(INVALID_ARGUMENT):
        await client.stream_large(_breaches(session, first, second)[breach], half_close=True)

    assert await client.statuses(first, second) == {}
    assert await client.result_statuses(session, out(first), out(second)) == {}


async def test_g25_everything_the_agent_sends(client: Client, workers: Workers) -> None:
    session, name, gate = await client.session(), unique("g25"), asyncio.Event()
    needs = {unique("g25-large"): pattern(CHUNK + 7), unique("g25-small"): b"small"}
    payload = pattern(2 * CHUNK + 11)

    async def slow_to_say_ok(call: Conversation) -> None:
        await call.task()
        gate.set()
        await call.send_result(out(name), b"")
        await call.ok()

    workers.behave(slow_to_say_ok, name)
    await client.submit_large(session, *(task(key, [key], payload=data) for key, data in needs.items()))
    await client.submit_large(
        session,
        task(name, needs=list(needs), payload=payload),
        task_options=options(free={"colour": "blue", "": "nameless"}, max_retries=3, priority=4),
    )
    assert await client.available(session, out(name)) is None

    [attempt] = workers.attempts_of(name)
    await workers.ended(attempt)
    large, small = needs
    assert attempt.log == [
        "< compute.init_request",
        "< compute.payload.data",
        "< compute.payload.data",
        "< compute.payload.data_complete",
        "< compute.init_data.key",
        "< compute.data.data",
        "< compute.data.data",
        "< compute.data.data_complete",
        "< compute.init_data.key",
        "< compute.data.data",
        "< compute.data.data_complete",
        "< compute.init_data.last_data",
        "> result.init.key",
        "> result.data.data",
        "> result.data.data_complete",
        "> result.init.last_result",
        "> output.ok",
        "< half-close",
    ]
    compute = [message.compute for message in attempt.received]
    init = compute[0].init_request
    assert init.configuration.data_chunk_max_size == CHUNK
    assert (init.session_id, init.task_id) == (session, name)
    assert dict(init.task_options) == {"colour": "blue", "": "nameless"}
    assert list(init.expected_output_keys) == [out(name)]
    assert b"".join([init.payload.data, *(part.payload.data for part in compute[1:3])]) == payload
    assert compute[3].payload.data_complete
    assert [part.init_data.key for part in (compute[4], compute[8])] == [large, small]
    assert b"".join(part.data.data for part in compute[5:7]) == needs[large]
    assert compute[9].data.data == needs[small]
    assert compute[11].init_data.last_data


async def test_g25_an_empty_task(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("g25-empty")
    await client.submit(session, task(name))
    assert await client.available(session, out(name)) is None

    [attempt] = workers.attempts_of(name)
    assert [kind_of(message) for message in attempt.received] == [
        "compute.init_request",
        "compute.payload.data_complete",
        "compute.init_data.last_data",
    ]
    init = attempt.received[0].compute.init_request
    assert init.payload.WhichOneof("type") == "data" and init.payload.data == b""


async def test_g25_an_empty_dependency_is_one_empty_chunk(client: Client, workers: Workers) -> None:
    session, name, key = await client.session(), unique("g25-empty"), unique("g25-key")
    await client.submit(session, task(key, [key]), task(name, needs=[key]))
    assert await client.available(session, out(name)) is None

    [attempt] = workers.attempts_of(name)
    assert [kind_of(message) for message in attempt.received][2:5] == [
        "compute.init_data.key",
        "compute.data.data",
        "compute.data.data_complete",
    ]


async def test_g26_three_kinds_of_data(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("g26")
    known, large, unfinished, unknown = (unique(f"g26-{what}") for what in ("known", "large", "unfinished", "unknown"))
    kinds: list[Kind] = ["resource", "common_data", "direct_data"]
    contents = {known: b"bytes", large: pattern(3 * CHUNK + 5)}
    answers: dict[tuple[Kind, str], bytes | str] = {}

    async def ask(call: Conversation) -> None:
        await call.task()
        for kind in kinds:
            for key in (known, large, unfinished, unknown):
                try:
                    answers[kind, key] = await call.data(kind, key)
                except DataRefusedError as error:
                    answers[kind, key] = str(error)
        await call.ok()

    workers.behave(ask, name)
    workers.behave(held(asyncio.Event()), unfinished)
    await client.submit_large(session, *(task(key, [key], payload=data) for key, data in contents.items()))
    await client.finish(session)
    await client.submit(session, task(unfinished, [unfinished]))
    await client.submit(session, task(name, []))
    await client.until(name, COMPLETED)

    # direct_data comes last: by then the agent has fetched both keys as common_data.
    for kind in kinds:
        assert {key: answers[kind, key] for key in contents} == contents, kind
        for key in (unfinished, unknown):
            answer = answers[kind, key]
            assert isinstance(answer, str) and key in answer, f"{kind} {key}: {answer!r}"
    await client.cancel_session(session)


async def test_g26_direct_data_that_the_agent_has_not(client: Client, workers: Workers) -> None:
    session, name, aborted = await client.session(), unique("g26"), unique("g26-aborted")
    refusals: list[str] = []

    async def ask(call: Conversation) -> None:
        await call.task()
        kinds: list[Kind] = ["direct_data", "common_data", "resource"]
        for kind in kinds:
            with pytest.raises(DataRefusedError) as error:
                await call.data(kind, aborted)
            refusals.append(str(error.value))
        await call.ok()

    workers.behave(saying(output_ok()), aborted)
    workers.behave(ask, name)
    await client.submit(session, task(aborted, [aborted]))
    await client.until(aborted, COMPLETED)
    await client.submit(session, task(name, []))

    await client.until(name, COMPLETED)
    assert len(refusals) == 3


def _violations(key: str) -> dict[str, tuple[list[ProcessReply], str]]:
    whole = whole_result("r", key, b"x")
    return {
        "foreign key": ([*whole_result("r", "foreign", b"x"), output_ok()], "foreign"),
        "Output before data_complete": ([result_key("r", key), result_data("r", b"x"), output_ok()], ""),
        "key twice": ([*whole, *whole_result("s", key, b"y"), output_ok()], key),
        "key twice, open": ([*whole, result_key("s", key)], key),
    }


@pytest.mark.parametrize("violation", _violations(""))
async def test_g27_violation(solo: Stage, violation: str) -> None:
    client, workers = solo.client, solo.workers
    session, name, hopeless = await client.session(), unique("g27"), unique("g27-hopeless")
    messages, named = _violations(out(name))[violation]
    workers.behave(by_attempt(saying(*messages), echo), name)
    workers.behave(saying(*_violations(out(hopeless))[violation][0]), hopeless)

    await client.submit(session, task(hopeless))
    await client.submit(session, task(name, payload=b"fine now"), task_options=options(max_retries=1))

    assert await client.available(session, out(name)) is None
    assert await client.available(session, out(hopeless)) is not None
    assert await client.result(session, out(name)) == b"fine now"
    assert await client.result_statuses(session, out(name), out(hopeless)) == {
        out(name): RESULT_COMPLETED,
        out(hopeless): ABORTED,
    }
    assert [attempt.task_id for attempt in workers.attempts_of(name)] == [name, f"{name}###1"]
    assert await client.status(hopeless) == ERROR
    [reason] = reasons(await client.available(session, out(hopeless)))
    assert named.replace(name, hopeless) in reason
