"""Part 2: every field of a submission broken in turn, by both ways of submitting."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from protocol.bare_client import Client, refused
from protocol.messages import COMPLETED, options, out, small, task, unique
from protocol.stubs.objects_pb2 import TaskOptions, TaskRequest
from protocol.stubs.submitter_service_pb2 import CreateSessionRequest, SessionFilter

ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

BLANKS = ["", " ", "\t\n ", "\u2003"]
TOO_LONG = ["x" * 1_025, "ü" * 513, "\U0001f3bb" * 257]
LONGEST = ["x" * 1_024, "ü" * 512, "\U0001f3bb" * 256]

#: Options that break a rule, and the field that the detail names.
BROKEN_OPTIONS = {
    "no max_duration": (TaskOptions(max_retries=1, priority=1), "max_duration"),
    "max_duration 0": (TaskOptions(max_duration=Duration(), max_retries=1, priority=1), "max_duration"),
    "max_duration -1": (TaskOptions(max_duration=Duration(seconds=-1), max_retries=1, priority=1), "max_duration"),
    "max_duration -1 ns": (TaskOptions(max_duration=Duration(nanos=-1), max_retries=1, priority=1), "max_duration"),
    "max_retries -1": (options(max_retries=-1), "max_retries"),
    "max_retries least": (options(max_retries=-(2**31)), "max_retries"),
    "priority 0": (options(priority=0), "priority"),
    "priority -1": (options(priority=-1), "priority"),
    "priority 100": (options(priority=100), "priority"),
    "priority most": (options(priority=2**31 - 1), "priority"),
    "all unset": (TaskOptions(), "max_duration"),
}

#: Options at the very edge of the rules.
EDGE_OPTIONS = {
    "max_duration longest": TaskOptions(max_duration=Duration(seconds=315_576_000_000), priority=1),
    "max_retries 0": options(max_retries=0),
    "max_retries most": options(max_retries=2**31 - 1),
    "priority 1": options(priority=1),
    "priority 99": options(priority=99),
}


@dataclass(frozen=True)
class Broken:
    """A submission that breaks a rule.

    Attributes:
        tasks: All of it.
        names: What the detail must contain.
        large_only: The rule holds for CreateLargeTasks alone.
    """

    tasks: Sequence[TaskRequest]
    names: Sequence[str] = ()
    large_only: bool = False


def _broken_tasks(name: str) -> dict[str, Broken]:
    cases = {
        "same id twice": Broken([task(name, ["a"]), task(name, ["b"])], [name]),
        "same key twice in a task": Broken([task(name, ["a", "twice", "twice"])], ["twice"]),
        "same key twice in a request": Broken([task(name, ["twice"]), task(f"{name}+", ["twice"])], ["twice"]),
        "no expected outputs": Broken([task(name, [])], [name, "expected_output_keys"], large_only=True),
        "no tasks": Broken([]),
    }
    for blank in BLANKS:
        cases[f"id {blank!r}"] = Broken([task(blank, ["a"])], ["id"])
        cases[f"key {blank!r}"] = Broken([task(name, ["a", blank])], ["expected_output_keys"])
        cases[f"dependency {blank!r}"] = Broken([task(name, needs=["a", blank])], ["data_dependencies"])
    for index, long in enumerate(TOO_LONG):
        cases[f"id too long {index}"] = Broken([task(long, ["a"])], ["id", "1024"])
        cases[f"key too long {index}"] = Broken([task(name, ["a", long])], ["expected_output_keys", "1024"])
        cases[f"dependency too long {index}"] = Broken([task(name, needs=["a", long])], ["data_dependencies"])
    return cases


async def _submit(
    client: Client, way: str, session: str, tasks: Sequence[TaskRequest], task_options: TaskOptions | None = None
) -> None:
    if way == "small":
        await client.submit(session, *tasks, task_options=task_options)
    else:
        await client.submit_large(session, *tasks, task_options=task_options)


async def _nothing_created(client: Client, session: str, tasks: Sequence[TaskRequest]) -> None:
    ids = [each.id for each in tasks if each.id.strip()]
    keys = [key for each in tasks for key in each.expected_output_keys if key.strip()]
    assert await client.statuses(*ids) == {}
    assert await client.result_statuses(session, *keys) == {}


@pytest.mark.parametrize("way", ["small", "large"])
@pytest.mark.parametrize("case", _broken_tasks(""))
async def test_broken_task(client: Client, way: str, case: str) -> None:
    broken, session, innocent = _broken_tasks(unique("broken"))[case], await client.session(), task(unique("innocent"))
    if broken.large_only and way == "small":
        return await _submit(client, way, session, broken.tasks)
    tasks = [innocent, *broken.tasks] if broken.tasks else []

    with refused(INVALID_ARGUMENT, naming=broken.names):
        await _submit(client, way, session, tasks)

    await _nothing_created(client, session, tasks)
    return None


@pytest.mark.parametrize("way", ["small", "large"])
@pytest.mark.parametrize("case", BROKEN_OPTIONS)
async def test_broken_options_of_tasks(client: Client, way: str, case: str) -> None:
    broken, field = BROKEN_OPTIONS[case]
    session, innocent = await client.session(), task(unique("innocent"))

    with refused(INVALID_ARGUMENT, naming=[field]):
        await _submit(client, way, session, [innocent], broken)

    await _nothing_created(client, session, [innocent])


@pytest.mark.parametrize("case", BROKEN_OPTIONS)
async def test_broken_options_of_a_session(client: Client, case: str) -> None:
    broken, field = BROKEN_OPTIONS[case]
    session = unique("broken")

    with refused(INVALID_ARGUMENT, naming=[field]):
        await client.stub.CreateSession(CreateSessionRequest(id=session, default_task_option=broken))

    assert list((await client.stub.ListSessions(SessionFilter(sessions=[session]))).session_ids) == []


async def test_session_without_default_options(client: Client) -> None:
    session = unique("broken")
    with refused(INVALID_ARGUMENT, naming=["default_task_option"]):
        await client.stub.CreateSession(CreateSessionRequest(id=session))
    assert list((await client.stub.ListSessions(SessionFilter(sessions=[session]))).session_ids) == []


@pytest.mark.parametrize("session", BLANKS + TOO_LONG)
async def test_session_id_that_breaks_the_rules(client: Client, session: str) -> None:
    with refused(INVALID_ARGUMENT, naming=["id"]):
        await client.stub.CreateSession(CreateSessionRequest(id=session, default_task_option=options()))


@pytest.mark.parametrize("case", EDGE_OPTIONS)
@pytest.mark.parametrize("way", ["small", "large"])
async def test_options_at_the_edge(client: Client, case: str, way: str) -> None:
    session, name = await client.session(default=EDGE_OPTIONS[case]), unique("edge")

    await _submit(client, way, session, [task(name)], EDGE_OPTIONS[case])

    await client.until(name, COMPLETED)


@pytest.mark.parametrize("way", ["small", "large"])
@pytest.mark.parametrize("session", ["unknown", *BLANKS])
async def test_submission_to_no_session(client: Client, way: str, session: str) -> None:
    codes = {NOT_FOUND} if session == "unknown" else {NOT_FOUND, INVALID_ARGUMENT}
    lonely = task(unique("lonely"))
    with refused(*codes):
        await _submit(client, way, unique(session) if session == "unknown" else session, [lonely])
    assert await client.statuses(lonely.id) == {}


@pytest.mark.parametrize("way", ["small", "large"])
async def test_submission_to_a_cancelled_session(client: Client, way: str) -> None:
    session, late = await client.session(), task(unique("late"))
    await client.cancel_session(session)

    with refused(FAILED_PRECONDITION, naming=[session]):
        await _submit(client, way, session, [late])

    await _nothing_created(client, session, [late])


@pytest.mark.parametrize("way", ["small", "large"])
async def test_taken_names_are_named_up_to_ten(client: Client, way: str) -> None:
    session, fresh = await client.session(), task(unique("fresh"))
    names = [unique("taken") for _ in range(15)]
    await client.submit(session, *(task(name, payload=b"first") for name in names))

    with refused(ALREADY_EXISTS, naming=names[:10]):
        await _submit(client, way, session, [fresh, *(task(name, payload=b"second") for name in names)])

    await _nothing_created(client, session, [fresh])


def _variants(name: str) -> dict[str, TaskRequest]:
    return {
        "payload": task(name, payload=b"other", needs=["need"]),
        "payload empty": task(name, needs=["need"]),
        "keys": task(name, [out(name), f"{name} more"], payload=b"same", needs=["need"]),
        "no dependency": task(name, payload=b"same"),
        "dependencies": task(name, payload=b"same", needs=["need", "more"]),
    }


@pytest.mark.parametrize("way", ["small", "large"])
@pytest.mark.parametrize("variant", _variants(""))
async def test_a_retry_that_differs_is_a_clash(client: Client, way: str, variant: str) -> None:
    session, name = await client.session(), unique("differs")
    await _submit(client, way, session, [task(name, payload=b"same", needs=["need"])])

    with refused(ALREADY_EXISTS, naming=[name]):
        await _submit(client, way, session, [_variants(name)[variant]])

    await _submit(client, way, session, [task(name, payload=b"same", needs=["need"])])


@pytest.mark.parametrize("way", ["small", "large"])
async def test_a_retry_with_other_options_or_session_is_a_clash(client: Client, way: str) -> None:
    session, name = await client.session(), unique("differs")
    await _submit(client, way, session, [task(name)], options(priority=5))

    with refused(ALREADY_EXISTS, naming=[name]):
        await _submit(client, way, session, [task(name)], options(priority=6))
    with refused(ALREADY_EXISTS, naming=[name]):
        await _submit(client, way, await client.session(), [task(name)], options(priority=5))
    with refused(ALREADY_EXISTS, naming=[name]):
        await _submit(client, way, session, [task(name), task(f"{name}+")], options(priority=5))

    await _submit(client, way, session, [task(name)], options(priority=5))
    assert await client.statuses(f"{name}+") == {}


@pytest.mark.parametrize("way", ["small", "large"])
async def test_an_identical_retry_of_a_batch(client: Client, way: str) -> None:
    session = await client.session()
    batch = [task(unique("same"), payload=bytes([n]) * n * 1_000, needs=["need"] * (n % 2)) for n in range(20)]
    await _submit(client, way, session, batch)

    await _submit(client, way, session, batch)

    assert len(await client.statuses(*(each.id for each in batch))) == 20


async def test_nul_in_a_name_is_refused_as_a_whole(client: Client) -> None:
    """The protocol allows any string; whoever cannot hold this one must say so, not fail."""
    session, name = await client.session(), unique("nul")
    for broken in (task(f"{name}\0"), task(name, ["k\0"]), task(name, needs=["k\0"])):
        with refused(INVALID_ARGUMENT):
            await client.submit(session, broken)
    assert await client.statuses(name) == {}


async def test_sessions_default_is_taken_as_a_whole(client: Client) -> None:
    session = await client.session(default=options(max_retries=3, priority=50, free={"of": "the session"}))
    with refused(INVALID_ARGUMENT, naming=["max_duration"]):
        partial = small(session, task(unique("partial")), task_options=TaskOptions(priority=2))
        await client.stub.CreateSmallTasks(partial)
