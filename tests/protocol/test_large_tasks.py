"""CreateLargeTasks as a state machine: every sequence of its messages, generated (part 2)."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence

import grpc
import pytest

from protocol.bare_client import Client, code_of, refused
from protocol.messages import (
    CHUNK,
    COMPLETED,
    init_large,
    large_data,
    large_data_complete,
    large_header,
    large_submission,
    last_task,
    out,
    pattern,
    task,
    unique,
)
from protocol.stubs.objects_pb2 import DataChunk, InitTaskRequest
from protocol.stubs.submitter_service_pb2 import CreateLargeTaskRequest

#: init_request, header, data, data_complete, last_task; then messages with an empty oneof.
KINDS = "IHDCL"
EMPTY = "xyz"
_AT_ONCE = 16


def verdict(sequence: str) -> bool | None:
    """Whether a sequence is accepted; None while it could still become either.

    The grammar of part 2, ``init_request (header data* data_complete)* last_task``, with at least one task.
    """
    state, tasks = "start", 0
    for kind in sequence:
        match state, kind:
            case "start", "I":
                state = "between"
            case "between", "H":
                state = "inside"
            case "inside", "D":
                pass
            case "inside", "C":
                state, tasks = "between", tasks + 1
            case "between", "L":
                return tasks > 0
            case _:
                return False
    return None


def accepted(sequence: str) -> bool:
    """Whether a sequence that ends in a half-close is accepted."""
    decided = verdict(sequence)
    return decided if decided is not None else sequence.endswith("C")


def telling(length: int) -> Iterator[str]:
    """Sequences up to ``length``, none longer than its first breach or its ``last_task``."""
    yield ""
    viable = [""]
    for _ in range(length):
        longer = [sequence + kind for sequence in viable for kind in KINDS + EMPTY]
        yield from longer
        viable = [sequence for sequence in longer if verdict(sequence) is None]


def messages_of(sequence: str, session: str, names: Sequence[str]) -> Iterator[CreateLargeTaskRequest]:
    """The messages of a sequence; each header takes the next name."""
    remaining = iter(names)
    for kind in sequence:
        match kind:
            case "I":
                yield init_large(session)
            case "H":
                yield large_header(task(next(remaining)))
            case "D":
                yield large_data(b"data")
            case "C":
                yield large_data_complete()
            case "L":
                yield last_task()
            case "x":
                yield CreateLargeTaskRequest()
            case "y":
                yield CreateLargeTaskRequest(init_task=InitTaskRequest())
            case _:
                yield CreateLargeTaskRequest(task_payload=DataChunk())


async def _try(client: Client, session: str, sequence: str) -> str | None:
    """Send one sequence; None when the server did what the grammar says, else the story."""
    names = [unique("seq") for kind in sequence if kind == "H"]
    requests = messages_of(sequence, session, names)
    try:
        # What ends in last_task is answered without a half-close; the rest only ends by one.
        await client.stream_large(requests, half_close=verdict(sequence) is None, timeout_s=20)
    except grpc.RpcError as error:
        answer = code_of(error).name
    else:
        answer = "accepted"
    created = list(await client.statuses(*names)) if names else []
    # Past last_task nothing is read: those tasks never were.
    announced = names[: sequence.partition("L")[0].count("H")]
    if accepted(sequence):
        right = answer == "accepted" and created == announced
    else:
        right = answer == "INVALID_ARGUMENT" and created == []
    return None if right else f"{sequence or 'nothing'}: {answer}, created {created}"


async def _try_all(client: Client, sequences: Iterator[str]) -> list[str]:
    session, wrong = await client.session(), list[str]()

    async def work() -> None:
        for sequence in sequences:  # Shared: each worker takes the next one.
            if story := await _try(client, session, sequence):
                wrong.append(story)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
    await client.finish(session)
    return wrong


async def test_sequences_up_to_their_first_breach(client: Client) -> None:
    assert await _try_all(client, telling(6)) == []


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_all_sequences(client: Client) -> None:
    sequences = ("".join(kinds) for length in range(7) for kinds in itertools.product(KINDS, repeat=length))
    assert await _try_all(client, sequences) == []


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK])
async def test_chunks_that_fit(client: Client, size: int) -> None:
    session, name = await client.session(), unique("fit")
    payload = pattern(size)
    requests = [
        init_large(session),
        large_header(task(name)),
        large_data(payload),
        large_data(payload),
        large_data_complete(),
        last_task(),
    ]

    await client.stream_large(requests, half_close=False)

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == payload * 2


@pytest.mark.parametrize("chunk", [0, 1])
async def test_a_chunk_that_is_too_long(client: Client, chunk: int) -> None:
    session, name = await client.session(), unique("long")
    sizes = [10, 10]
    sizes[chunk] = CHUNK + 1
    requests = [init_large(session), large_header(task(name)), *(large_data(pattern(size)) for size in sizes)]

    with refused(grpc.StatusCode.INVALID_ARGUMENT, naming=["84001"]):
        await client.stream_large(requests, half_close=False)

    assert await client.statuses(name) == {}


async def test_many_tasks_of_many_sizes(client: Client) -> None:
    session = await client.session()
    sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 65_535, 65_536, 65_537, 300_000]
    tasks = [task(unique("sizes"), payload=pattern(size)) for size in sizes * 3]

    reply = await client.stream_large(large_submission(session, tasks, chunk_size=50_000), half_close=False)

    assert reply.WhichOneof("Data") == "successfull"
    assert await client.finish(session) == {COMPLETED: len(tasks)}
    for each in tasks:
        assert await client.result(session, out(each.id)) == each.payload


async def test_data_may_be_absent(client: Client) -> None:
    session, name = await client.session(), unique("absent")
    requests = [init_large(session), large_header(task(name)), large_data_complete(), last_task()]

    await client.stream_large(requests, half_close=False)

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b""


async def test_the_half_close_ends_a_submission_too(client: Client) -> None:
    session, name = await client.session(), unique("half-close")

    await client.stream_large(messages_of("IHDC", session, [name]), half_close=True)

    assert await client.available(session, out(name)) is None


async def test_a_client_that_goes_away_leaves_nothing(client: Client) -> None:
    session, name = await client.session(), unique("away")
    call = client.stub.CreateLargeTasks(timeout=20)
    for request in messages_of("IHDC", session, [name]):
        await call.write(request)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await client.submit(session, task(name, payload=b"the name is free"))
    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b"the name is free"


async def test_a_refusal_comes_while_the_client_still_sends(client: Client) -> None:
    session, name = await client.session(), unique("refusal")

    def endless() -> Iterator[CreateLargeTaskRequest]:
        yield init_large(session)
        yield large_header(task(name))
        yield large_data(pattern(CHUNK + 1))
        yield from itertools.repeat(large_data(pattern(CHUNK)), 100_000)

    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await client.stream_large(endless(), half_close=True)


async def test_an_unknown_session_is_told_before_the_payload(client: Client) -> None:
    unknown = unique("unknown")

    def endless() -> Iterator[CreateLargeTaskRequest]:
        yield init_large(unknown)
        yield large_header(task(unique("task")))
        yield from itertools.repeat(large_data(pattern(CHUNK)), 1_000)
        yield large_data_complete()
        yield last_task()

    with refused(grpc.StatusCode.NOT_FOUND, naming=[unknown]):
        await client.stream_large(endless(), half_close=False)
