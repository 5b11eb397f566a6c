"""The services of lists, through a replica: what clients see, page by page, and what they are told."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

import ripieno.control.calls.questions as questions
from control.replica import Served, serving
from ripieno.wire.protos.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    partitions_pb2,
    partitions_pb2_grpc,
    query_pb2,
    results_pb2,
    results_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from store.world import World, done, failed, options, task

_Condition, _Filter, _Query = query_pb2.Condition, query_pb2.Filter, query_pb2.Query


def where(*conditions: query_pb2.Condition) -> query_pb2.Filter:
    """All of these."""
    return _Filter(any_of=[query_pb2.Conjunction(all_of=conditions)])


def equal(field: str, text: str) -> query_pb2.Condition:
    return _Condition(field=field, operator=query_pb2.EQUAL, text=text)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code(), refused.value.details() or ""


def ids(rows: Iterable[Any]) -> list[str]:
    return [row.id for row in rows]


async def test_tasks_are_listed_with_all_that_is_known_of_them(channel: grpc.aio.Channel, world: World) -> None:
    agent = await world.agent("agent 7")
    of = options(priority=7, color="red")
    await world.submit(task("t1", "k1", payload=b"12345"), task("t2", "k2", needs=["k1"]), of=of)
    claimed = await world.claim(1, agent=agent)
    await world.commit(done(claimed["t1"], {"k1": b"xyz"}))
    stub = tasks_pb2_grpc.TasksStub(channel)
    page = await stub.List(_Query(filter=where(equal("options.color", "red")), with_total=True))
    first, second = page.tasks
    assert (first.id, first.session_id, first.status, first.attempt) == ("t1", "s", "COMPLETED", 0)
    assert (first.agent, first.worker, first.payload_size) == ("agent 7", "worker-1", 5)
    assert (list(first.expected_output_keys), list(second.data_dependencies)) == (["k1"], ["k1"])
    assert first.options.priority == 7 and first.options.max_duration.seconds == 10
    assert dict(first.options.options) == {"color": "red"}
    assert first.number < second.number
    assert first.submitted_at.seconds <= first.claimed_at.seconds <= first.ended_at.seconds
    assert first.duration.ToTimedelta() == first.ended_at.ToDatetime() - first.started_at.ToDatetime()
    assert (second.status, second.unmet_dependencies, second.HasField("claimed_at")) == ("SUBMITTED", 0, False)
    assert (page.page.total, page.page.next_cursor) == (2, "")
    assert await stub.Get(tasks_pb2.TaskId(task_id="t1")) == first
    assert await stub.Get(tasks_pb2.TaskId(task_id="t1###2")) == first  # the id that a worker saw
    assert not (first.HasField("starts_at") or first.HasField("deadline"))


async def test_tasks_tell_their_times(channel: grpc.aio.Channel, world: World) -> None:
    of = options(**{"ripieno.delay": "3600", "ripieno.deadline": "2999-01-02T03:04:05.5Z"})  # type: ignore[arg-type]
    await world.submit(task("t", needs=["k"]), of=of)
    told = await tasks_pb2_grpc.TasksStub(channel).Get(tasks_pb2.TaskId(task_id="t"))
    assert told.starts_at.ToDatetime() - told.submitted_at.ToDatetime() == timedelta(hours=1)
    assert told.deadline.ToJsonString() == "2999-01-02T03:04:05.500Z" and told.unmet_dependencies == 1


async def test_pages_by_cursor_and_by_number(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(*(task(f"t{place}") for place in range(7)))
    stub = tasks_pb2_grpc.TasksStub(channel)
    newest = _Query(sort=[query_pb2.Sort(field="number", descending=True)], page_size=3, fields=["id"])
    found, cursor = [], ""
    while True:
        page = await stub.List(_Query(**{**_fields(newest), "cursor": cursor}))
        found.append(ids(page.tasks))
        if not (cursor := page.page.next_cursor):
            break
    assert found == [["t6", "t5", "t4"], ["t3", "t2", "t1"], ["t0"]]
    numbered = [await stub.List(_Query(**{**_fields(newest), "page": place})) for place in range(4)]
    assert [ids(page.tasks) for page in numbered] == [*found, []]
    assert numbered[0].tasks[0] == tasks_pb2.Task(id="t6")  # the fields asked for alone
    alone = await stub.List(_Query(page_size=-1))
    assert (list(alone.tasks), alone.page.total) == ([], 7)
    assert (await stub.Count(where(_Condition(field="id", operator=query_pb2.ENDS_WITH, text="6")))).rows == 1


def _fields(query: query_pb2.Query) -> dict[str, Any]:
    return {field.name: value for field, value in query.ListFields()}


async def test_a_failed_task_tells_its_story(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(task("a", "ka"), of=options(retries=1))
    await world.submit(task("b", "kb", needs=["ka"]), task("c", "kc", needs=["kb"]))
    for detail in ("first", "second"):
        claimed = await world.claim()
        await world.commit(failed(claimed["a"], detail))
    stub = tasks_pb2_grpc.TasksStub(channel)
    attempts = await stub.ListAttempts(_Query(filter=where(equal("task_id", "a"))))
    assert [(each.number, each.status, each.error) for each in attempts.attempts] == [
        (0, "ERROR", "first"),
        (1, "ERROR", "second"),
    ]
    assert (await stub.CountAttempts(_Filter())).rows == 2
    broken = where(equal("status", "ERROR"))
    page = await stub.List(_Query(filter=broken))
    assert [(each.id, each.error) for each in page.tasks] == [
        ("a", "second"),
        ("b", "input 'ka' was aborted"),
        ("c", "input 'kb' was aborted"),
    ]
    story = (await stub.Get(tasks_pb2.TaskId(task_id="c"))).error
    between = ("input 'kb' was aborted", "task 'b' ended in ERROR", "input 'ka' was aborted", "task 'a' ended in ERROR")
    assert story == ": ".join([*between, "second"])
    assert (await stub.Count(broken)).rows == 3


async def test_sessions_and_options(channel: grpc.aio.Channel, world: World) -> None:
    await world.session("other", options(priority=3))
    await world.submit(task("t1", payload=b"123"), task("t2", payload=b"45"))
    await world.submit(task("t3"), of=options(priority=9, a="b"))
    await world.cancel_session("other")
    stub = sessions_pb2_grpc.SessionsStub(channel)
    page = await stub.List(_Query(with_total=True))
    assert [(each.id, each.status, each.default_options.priority) for each in page.sessions] == [
        ("s", "RUNNING", 50),
        ("other", "CANCELLED", 3),
    ]
    session = await stub.Get(sessions_pb2.SessionId(session_id="s"))
    assert dict(session.tasks) == {"SUBMITTED": 3} and session.stored_bytes == 5 + len(b"payload")
    assert session.client_submission and not session.HasField("cancelled_at")
    assert (await stub.Count(where(equal("status", "CANCELLED")))).rows == 1
    tasks = tasks_pb2_grpc.TasksStub(channel)
    of = await tasks.ListOptions(_Query(filter=where(equal("session_id", "s"))))
    assert [each.options.priority for each in of.options] == [50, 9]
    assert (await tasks.CountOptions(where(equal("options.a", "b")))).rows == 1


async def test_results(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(task("t1", "k1", "k2"))
    claimed = await world.claim()
    await world.commit(done(claimed["t1"], {"k1": b"123"}))
    await world.submit(task("t2", "k3", needs=["named only"]))
    stub = results_pb2_grpc.ResultsStub(channel)
    page = await stub.List(_Query(filter=where(equal("session_id", "s")), with_total=True))
    assert [(each.key, each.status, each.owner_task_id, each.size) for each in page.results] == [
        ("k1", "COMPLETED", "t1", 3),
        ("k2", "ABORTED", "t1", 0),
        ("k3", "CREATED", "t2", 0),
    ]
    assert page.page.total == (await stub.Count(_Filter())).rows == 3
    assert await stub.Get(results_pb2.ResultId(session_id="s", key="k1")) == page.results[0]
    missing = stub.Get(results_pb2.ResultId(session_id="s", key="named only"))
    assert await refusal(missing) == (grpc.StatusCode.NOT_FOUND, "result 'named only' does not exist in session 's'")


async def test_agents_and_partitions(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(task("t1"), of=options(partition="p"))
    agent = await world.agent("agent 7")
    await world.submit(task("t2"))
    await world.claim(1, agent=agent)
    agents, partitions = agents_pb2_grpc.AgentsStub(channel), partitions_pb2_grpc.PartitionsStub(channel)
    [row] = (await agents.List(_Query())).agents
    assert (row.name, row.connected, row.slots, row.held, list(row.partitions)) == ("agent 7", True, 1, 1, [""])
    [(secret,)] = await world.rows("select agent_id::text from agents")
    assert row.id and row.id != secret
    assert await agents.Get(agents_pb2.AgentId(id=row.id)) == row
    assert (await refusal(agents.Get(agents_pb2.AgentId(id=str(secret)))))[0] is grpc.StatusCode.NOT_FOUND
    assert (await agents.Count(where(_Condition(field="connected", operator=query_pb2.EQUAL, boolean=False)))).rows == 0
    page = await partitions.List(_Query())
    assert [(each.name, each.agents, each.slots, each.busy) for each in page.partitions] == [
        ("", 1, 1, 1),
        ("p", 0, 0, 0),
    ]
    assert await partitions.Get(partitions_pb2.PartitionName()) == page.partitions[0]
    unknown = partitions.Get(partitions_pb2.PartitionName(name="q"))
    assert await refusal(unknown) == (
        grpc.StatusCode.NOT_FOUND,
        "no agent serves partition 'q', and no options name it",
    )


async def test_what_is_unknown_is_not_found(channel: grpc.aio.Channel) -> None:
    unknown = tasks_pb2_grpc.TasksStub(channel).Get(tasks_pb2.TaskId(task_id="nobody"))
    assert await refusal(unknown) == (grpc.StatusCode.NOT_FOUND, "task 'nobody' does not exist")
    session = sessions_pb2_grpc.SessionsStub(channel).Get(sessions_pb2.SessionId(session_id="none"))
    assert await refusal(session) == (grpc.StatusCode.NOT_FOUND, "session 'none' does not exist")
    blank = sessions_pb2_grpc.SessionsStub(channel).Get(sessions_pb2.SessionId())
    assert (await refusal(blank))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_times_and_durations_are_compared_to_the_nanosecond(channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(task("t"))
    [(at,)] = await world.rows("select (extract(epoch from submitted_at) * 1000000)::bigint from tasks")
    assert isinstance(at, int)
    stub = tasks_pb2_grpc.TasksStub(channel)

    async def count(field: str, operator: query_pb2.Operator.ValueType, nanos: int) -> int:
        condition = _Condition(field=field, operator=operator)
        value = condition.time if field == "submitted_at" else condition.duration
        value.seconds, value.nanos = divmod(nanos, 10**9)
        return (await stub.Count(where(condition))).rows

    for field, microseconds in (("submitted_at", at), ("options.max_duration", 10_000_000)):
        exactly = microseconds * 1000
        for operator, counts in (
            (query_pb2.LESS, [0, 0, 1]),
            (query_pb2.LESS_OR_EQUAL, [0, 1, 1]),
            (query_pb2.GREATER, [1, 0, 0]),
            (query_pb2.GREATER_OR_EQUAL, [1, 1, 0]),
        ):
            assert [await count(field, operator, exactly + off) for off in (-1, 0, 1)] == counts, operator
        assert await count(field, query_pb2.EQUAL, exactly) == 1
        assert "finer than a microsecond" in (await refusal(count(field, query_pb2.EQUAL, exactly + 1)))[1]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (_Query(filter=where(_Condition(field="id"))), "filter.any_of[0].all_of[0].operator: is not set; name one of EQUAL,"),
        (_Query(filter=where(equal("nix", "x"))), "filter.any_of[0].all_of[0].field: 'nix' is not a field of tasks;"),
        (_Query(filter=where(equal("number", "x"))), "filter.any_of[0].all_of[0].value: 'x' does not fit 'number'"),
        (_Query(cursor="abc"), "cursor: is not one of this query"),
        (_Query(page=-1), "page: -1 is negative"),
        (_Query(fields=["nix"]), "fields[0]: 'nix' is not a field of tasks"),
    ],
)  # fmt: skip
async def test_a_query_that_is_none_is_told(channel: grpc.aio.Channel, query: query_pb2.Query, said: str) -> None:
    code, details = await refusal(tasks_pb2_grpc.TasksStub(channel).List(query))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and details.startswith(said), details


async def test_too_much_is_told_with_the_limit(channel: grpc.aio.Channel) -> None:
    call = tasks_pb2_grpc.TasksStub(channel).List(_Query(page_size=10_001))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("ripieno-limit", "rows_per_page") in list(refused.value.trailing_metadata() or ())


async def test_a_long_filter_waits_for_its_turn(
    served: Served, channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "_PATIENCE_S", 0.05)
    await world.submit(task("t7"))
    long = _Filter(any_of=[query_pb2.Conjunction(all_of=[equal("id", f"t{place}")]) for place in range(6_000)])
    stub, turns = tasks_pb2_grpc.TasksStub(channel), served.replica._admission._questions._turns
    assert (await stub.Count(long)).rows == len((await stub.List(_Query(filter=long))).tasks) == 1
    assert await turns.take(turns.size, 1.0)
    for call in (stub.Count(long), stub.ListAttempts(_Query(filter=long))):
        code, _ = await refusal(call)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await stub.Count(where(equal("id", "t7")))).rows == 1
    turns.give_back(turns.size)


async def test_a_large_page_fits_into_a_message_or_says_how(channel: grpc.aio.Channel, world: World) -> None:
    """A client with gRPC's own limit of 4 MiB reads whatever comes."""
    keys = [f"{place:0250}" for place in range(1_000)]
    for number in range(20):
        await world.submit(task(f"t{number}", *(f"{number} {key}" for key in keys)))
    stub = tasks_pb2_grpc.TasksStub(channel)
    code, details = await refusal(stub.List(_Query()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "lower page_size, or name fewer fields" in details
    page = await stub.List(_Query(page_size=10))
    assert len(page.tasks) == 10 and 2_000_000 < page.ByteSize() < 4_000_000
    assert len((await stub.List(_Query(fields=["id"]))).tasks) == 20


async def test_another_replica_goes_on_with_a_cursor(served: Served, channel: grpc.aio.Channel, world: World) -> None:
    await world.submit(*(task(f"t{place}") for place in range(3)))
    first = await tasks_pb2_grpc.TasksStub(channel).List(_Query(page_size=2))
    async with serving(served.replica._settings.database, served.objects) as other, other.connect() as elsewhere:
        second = await tasks_pb2_grpc.TasksStub(elsewhere).List(_Query(page_size=2, cursor=first.page.next_cursor))
    assert ids([*first.tasks, *second.tasks]) == ["t0", "t1", "t2"]


async def test_a_cancelled_list_ends_its_statement(served: Served, channel: grpc.aio.Channel, world: World) -> None:
    """And its session of two is free for others."""
    await world.submit(task("t"))
    await world.claim()
    await world.rows("drop view attempts")
    await world.rows("create view attempts as select s.* from states s cross join pg_sleep(60)")
    running = "select 1 from pg_stat_activity where query like '%from attempts%' and state = 'active' and pid <> pg_backend_pid()"
    served.replica._tasks._attempts._lists._timeout_s = 60
    stub = tasks_pb2_grpc.TasksStub(channel)
    calls = [stub.ListAttempts(_Query()) for _ in range(2)]
    await _until_it_runs(world, running, 2)
    for call in calls:
        call.cancel()
    await _until_it_runs(world, running, 0)
    assert len((await stub.List(_Query())).tasks) == 1


async def _until_it_runs(world: World, running: str, times: int) -> None:
    async with asyncio.timeout(20):
        while len(await world.rows(running)) != times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
