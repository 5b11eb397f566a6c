"""Everything that a worker may say, and may not: reply sequences up to length 5, generated (part 3)."""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto

import pytest

from protocol.bare_client import ABORTED, CREATED, RESULT_COMPLETED, Client
from protocol.bare_worker import Workers
from protocol.conversation import Conversation
from protocol.messages import COMPLETED, ERROR, by_sessions, options, out, task, unique
from protocol.replies import (
    last_result,
    last_sub_task,
    output_error,
    output_ok,
    result_complete,
    result_data,
    result_key,
    sub_task_complete,
    sub_task_data,
    sub_task_header,
    sub_tasks_init,
)
from protocol.stubs.objects_pb2 import DataChunk, InitKeyedDataStream, InitTaskRequest, Output
from protocol.stubs.worker_service_pb2 import ProcessReply
from protocol.test_large_tasks import KINDS, verdict

#: Result of key 1 or 2 begins, data, data_complete, last_result, Output ok and error.
RESULTS = "12DELOX"
#: Messages that are never right: an empty oneof on each level, and replies without a request id.
NEVER = "abcdefgh"


class Verdict(Enum):
    """What must come of a sequence; EITHER where part 3 can be read both ways."""

    OPEN = auto()
    OK = auto()
    OUTPUT_ERROR = auto()
    VIOLATION = auto()
    EITHER = auto()


def judged(sequence: str) -> Verdict:
    """The rules of part 3 for results and Output; OPEN while the worker has not said Output."""
    current, used, doubtful, last_said = "", set[str](), False, True
    for kind in sequence:
        match kind:
            case "1" | "2" if not current and kind not in used:
                # A second result under a request id whose first was not ended by last_result.
                doubtful |= not last_said
                current, last_said = kind, False
                used.add(kind)
            case "D" if current:
                pass
            case "E" if current:
                current = ""
            case "L" if not current:
                # last_result without a result before it.
                doubtful |= last_said
                last_said = True
            case "O" if not current:
                # Output after data_complete, without last_result.
                return Verdict.EITHER if doubtful or not last_said else Verdict.OK
            case "X":
                return Verdict.OUTPUT_ERROR
            case _:
                return Verdict.VIOLATION
    return Verdict.OPEN


def sequences(length: int) -> Iterator[str]:
    """Sequences up to ``length``, none longer than its Output or its first violation."""
    yield ""
    viable = [""]
    for _ in range(length):
        longer = [sequence + kind for sequence in viable for kind in RESULTS + NEVER]
        yield from longer
        viable = [sequence for sequence in longer if judged(sequence) is Verdict.OPEN]


def replies_of(sequence: str, name: str) -> Iterator[ProcessReply]:
    """The messages of a sequence; each result has a request id of its own."""
    request = 0
    never: dict[str, Callable[[str], ProcessReply]] = {
        "a": lambda _: ProcessReply(),
        "b": lambda request_id: ProcessReply(request_id=request_id),
        "c": lambda request_id: ProcessReply(request_id=request_id, result=ProcessReply.Result()),
        "d": lambda request_id: ProcessReply(
            request_id=request_id, result=ProcessReply.Result(init=InitKeyedDataStream())
        ),
        "e": lambda request_id: ProcessReply(request_id=request_id, result=ProcessReply.Result(data=DataChunk())),
        "f": lambda _: ProcessReply(output=Output()),
        "g": lambda _: result_key("", f"{name} 1"),
        "h": lambda request_id: result_key(request_id, f"{name} foreign"),
    }
    for kind in sequence:
        match kind:
            case "1" | "2":
                request += 1
                yield result_key(f"r{request}", f"{name} {kind}")
            case "D":
                yield result_data(f"r{request}", b"data")
            case "E":
                yield result_complete(f"r{request}")
            case "L":
                yield last_result(f"r{request}")
            case "O":
                yield output_ok()
            case "X":
                yield output_error("as told")
            case _:
                yield never[kind](f"r{request}")


def contents(sequence: str) -> dict[str, bytes]:
    """The results that a sequence completes, by the kind that began each."""
    found, current = dict[str, bytes](), ""
    for kind in sequence:
        match kind:
            case "1" | "2":
                current = kind
                found[kind] = b""
            case "D":
                found[current] += b"data"
    return found


async def _say(call: Conversation) -> None:
    sequence, _, name = (await call.task()).payload.decode().partition(" ")
    await call.send(*replies_of(sequence, name))


async def _check(client: Client, session: str, name: str, sequence: str, status: int) -> str | None:
    keys = [f"{name} 1", f"{name} 2"]
    statuses = await client.result_statuses(session, *keys)
    expected = {key: RESULT_COMPLETED if key[-1] in sequence else ABORTED for key in keys}
    completed = status == COMPLETED and statuses == expected
    failed = status == ERROR and set(statuses.values()) == {ABORTED}
    right = {
        Verdict.OK: completed,
        Verdict.EITHER: completed or failed,
        Verdict.OUTPUT_ERROR: failed,
        Verdict.VIOLATION: failed,
        Verdict.OPEN: failed,
    }[judged(sequence)]
    if right and completed:
        for kind, data in contents(sequence).items():
            right &= await client.result(session, f"{name} {kind}") == data
    return None if right else f"{sequence or 'nothing'}: status {status}, results {statuses}"


async def test_results_and_output(client: Client, workers: Workers) -> None:
    session = await client.session()
    workers.behave(_say, session)
    said = {unique("say"): sequence for sequence in sequences(5)}
    tasks = [
        task(name, [f"{name} 1", f"{name} 2"], payload=f"{sequence} {name}".encode()) for name, sequence in said.items()
    ]
    await client.submit(session, *tasks)
    await client.finish(session, timeout_s=100)

    statuses = await client.statuses(*said)
    stories = [await _check(client, session, name, sequence, statuses[name]) for name, sequence in said.items()]
    assert [story for story in stories if story] == []
    assert len(workers.attempts_in(session)) == len(said)


async def test_a_violation_is_told_and_retried(client: Client, workers: Workers) -> None:
    session = await client.session(default=options(max_retries=1))
    workers.behave(_say, session)
    said = {unique("told"): sequence for sequence in ["", "1", "D", "12", *NEVER]}
    await client.submit(
        session,
        *(task(name, [f"{name} 1", f"{name} 2"], payload=f"{said[name]} {name}".encode()) for name in said),
    )
    await client.finish(session)

    for name, sequence in said.items():
        error = await client.available(session, f"{name} 1")
        assert error is not None and [entry.task_status for entry in error.errors] == [ERROR] * 2, sequence
        assert all(entry.detail for entry in error.errors), sequence
        assert len(workers.attempts_of(name)) == 2, sequence


# ---------------------------------------------------------------- streamed sub-tasks


def sub_task_sequences(length: int) -> Iterator[str]:
    """Sequences of the streamed submission up to ``length``, none longer than its first breach or its end."""
    viable = [""]
    for _ in range(length):
        longer = [sequence + kind for sequence in viable for kind in KINDS + "yz"]
        yield from longer
        viable = [sequence for sequence in longer if verdict(sequence) is None]


def sub_task_replies(sequence: str, names: Sequence[str]) -> Iterator[ProcessReply]:
    """The messages of such a sequence; each header takes the next name."""
    remaining = iter(names)
    large = ProcessReply.CreateLargeTaskRequest
    for kind in sequence:
        match kind:
            case "I":
                yield sub_tasks_init("s")
            case "H":
                yield sub_task_header("s", task(next(remaining)))
            case "D":
                yield sub_task_data("s", b"data")
            case "C":
                yield sub_task_complete("s")
            case "L":
                yield last_sub_task("s")
            case "y":
                yield ProcessReply(request_id="s", create_large_task=large(init_task=InitTaskRequest()))
            case _:
                yield ProcessReply(request_id="s", create_large_task=large())


def children_of(sequence: str, name: str) -> list[str]:
    """The names of the sub-tasks in a sequence."""
    return [f"{name} child {number}" for number in range(sequence.count("H"))]


async def _create(call: Conversation) -> None:
    sequence, _, name = (await call.task()).payload.decode().partition(" ")
    # Where the grammar is broken nobody waits for the answer, so it may cross Output.
    call.attempt.strict = verdict(sequence) is True
    await call.send(*sub_task_replies(sequence, children_of(sequence, name)))
    if call.attempt.strict:
        reply = (await call.answer("s")).create_task.reply
        assert reply.WhichOneof("Data") == "successfull", sequence
    await call.ok()


@pytest.mark.parametrize("length", [5])
async def test_streamed_sub_tasks(client: Client, workers: Workers, length: int) -> None:
    session = await client.session()
    said = {unique("create"): sequence for sequence in sub_task_sequences(length)}
    workers.behave(_create, *said)
    await client.submit(session, *(task(name, [], payload=f"{said[name]} {name}".encode()) for name in said))
    await client.finish(session)

    statuses = await client.statuses(*said)
    everything = set(await client.listed(by_sessions(session)))
    for name, sequence in said.items():
        children = children_of(sequence, name)
        if verdict(sequence):
            assert statuses[name] == COMPLETED, sequence
            assert set(children) <= everything, sequence
            assert set((await client.statuses(*children)).values()) == {COMPLETED}, sequence
            assert await client.result(session, out(children[0])) == (b"data" * sequence.count("D"))
        else:
            # The attempt fails, or the batch is refused and the stream goes on; the tasks never are.
            assert statuses[name] in ({ERROR} if verdict(sequence) is None else {ERROR, COMPLETED}), sequence
            assert not set(children) & everything, sequence


async def test_a_result_left_open_is_not_seen(client: Client, workers: Workers) -> None:
    session, name = await client.session(), unique("open")

    async def half(call: Conversation) -> None:
        await call.task()
        await call.send(result_key("r", out(name)), result_data("r", b"half"))
        assert await client.result_statuses(session, out(name)) == {out(name): CREATED}
        [reply] = await client.result_replies(session, out(name))
        assert reply.not_completed_task == name
        await call.send(result_data("r", b" and half"), result_complete("r"), last_result("r"))
        [reply] = await client.result_replies(session, out(name))
        assert reply.not_completed_task == name
        await call.ok()

    workers.behave(half, name)
    await client.submit(session, task(name))

    assert await client.available(session, out(name)) is None
    assert await client.result(session, out(name)) == b"half and half"
