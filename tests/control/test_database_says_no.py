"""A replica whose database says no: it lives, says so, and goes on when the database does."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control.replica import BareAgent, Served, serving
from ripieno.background import Health
from ripieno.config import ControlSettings
from ripieno.control.calls.errors import _foremost, _without_frames
from ripieno.control.server import _keep_working, run_control
from ripieno.domain.errors import NotFoundError, UnavailableError
from ripieno.store.database.database import _LISTING_SESSIONS, Database
from ripieno.store.embedded import EmbeddedPostgres
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from store.world import World, task

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def execute(server: EmbeddedPostgres, *statements: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def name_of(database_url: str) -> str:
    return database_url.partition("?")[0].rpartition("/")[2]


def end_sessions(database: str) -> str:
    return f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"


async def status(channel: grpc.aio.Channel, service: str = "") -> int:
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return int(reply.status)


async def until_status(channel: grpc.aio.Channel, wanted: int) -> None:
    async with asyncio.timeout(20):
        while await status(channel) != wanted:  # noqa: ASYNC110 - as an orchestrator asks
            await asyncio.sleep(0.05)


async def until_found(world: World) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await world.rows("select 1")
            except UnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def unavailable(submitter: "submitter_service_pb2_grpc.SubmitterAsyncStub") -> str:
    """Return why a call is refused, which must be as UNAVAILABLE and must not tell the address of the database."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submitter.ListSessions(submitter_service_pb2.SessionFilter())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    why = str(refused.value.details())
    assert "postgresql://" not in why
    return why


async def test_a_fail_over_to_a_standby_and_back(
    served: Served, channel: grpc.aio.Channel, postgres: EmbeddedPostgres, database_url: str
) -> None:
    assert await status(channel) == SERVING
    assert await status(channel, "ArmoniK.api.grpc.v1.Submitter") == SERVING
    database = name_of(database_url)
    agent = BareAgent(channel)
    await agent.hello(credit=1)
    await execute(postgres, f"alter database {database} set default_transaction_read_only = on", end_sessions(database))
    await until_status(channel, NOT_SERVING)
    submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
    async with asyncio.timeout(20):
        # A first call may meet the end of the session that it was lent.
        while "takes no writes" not in await unavailable(submitter):  # noqa: ASYNC110 - as a client asks
            await asyncio.sleep(0.01)
    await execute(postgres, f"alter database {database} set default_transaction_read_only = off")
    await until_status(channel, SERVING)
    assert (await submitter.ListSessions(submitter_service_pb2.SessionFilter())).session_ids == ["s"]
    agent.leave()


async def test_nobody_is_lost_while_nobody_could_be_renewed(
    postgres: EmbeddedPostgres, database_url: str, tmp_path: Path
) -> None:
    """A replica that has no agents only reads, and a read-only database lets it."""
    lease_s = 1.0
    async with (
        serving(database_url, tmp_path / "objects", lease_s=lease_s) as one,
        serving(database_url, tmp_path / "objects", lease_s=lease_s) as other,
        one.connect() as channel,
    ):
        await one.world.session()
        await one.world.submit(task("t", "k"))
        agent = BareAgent(channel)
        await agent.hello(credit=1)
        await agent.until(lambda: len(agent.assigned) == 1)
        renewed = "select renewals::text from agents where renewals >= $1"
        await execute(postgres, "alter system set default_transaction_read_only = on", "select pg_reload_conf()")
        try:
            await asyncio.sleep(2 * lease_s)  # for as long as it takes until an agent that nobody renews is lost
        finally:
            await execute(postgres, "alter system reset default_transaction_read_only", "select pg_reload_conf()")
        await until_found(one.world)
        await until_found(other.world)
        before = int(str((await one.world.rows(renewed, 0))[0][0]))
        async with asyncio.timeout(20):
            while not await one.world.rows(renewed, before + 4):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await one.world.rows("select detail from earlier_attempts") == []
        assert await one.world.statuses("t") == ["DISPATCHED"]
        agent.leave()


async def test_waits_for_another_incarnation_end(
    served: Served, channel: grpc.aio.Channel, postgres: EmbeddedPostgres, database_url: str
) -> None:
    await served.world.submit(task("t", "k"))
    agent = BareAgent(channel)
    await agent.hello()
    waiting = submitter_service_pb2_grpc.SubmitterStub(channel).WaitForAvailability(
        objects_pb2.ResultRequest(session="s", key="k")
    )
    await asyncio.sleep(0.2)
    served.world.database._identity = None  # what is found next is another one
    await execute(postgres, end_sessions(name_of(database_url)))
    async with asyncio.timeout(20):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await waiting
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await agent.call.code() is grpc.StatusCode.OK  # it dials anew
    agent.leave()


async def until_nothing_is_listed(database: Database) -> None:
    """Until the server waits for its client: what it has written fills the connection."""
    idle = 0
    async with asyncio.timeout(20):
        while idle < 20:
            idle = 0 if database.long_lists._value < _LISTING_SESSIONS else idle + 1
            await asyncio.sleep(0.01)


async def test_a_list_is_of_one_incarnation_to_its_end(
    served: Served, channel: grpc.aio.Channel, postgres: EmbeddedPostgres, database_url: str
) -> None:
    for part in range(10):
        await served.world.submit(*(task(f"{part}-{place}".ljust(1_000, "x")) for place in range(1_000)))
    listing = results_pb2_grpc.ResultsStub(channel).ListTaskIds(results_pb2.ListTaskIdsRequest(session_id="s"))
    replies = aiter(listing)
    assert len((await anext(replies)).task_ids) == 1_000
    await until_nothing_is_listed(served.world.database)
    served.world.database._identity = None  # what is found next is another one
    await execute(postgres, end_sessions(name_of(database_url)))
    await until_found(served.world)
    async with asyncio.timeout(20):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in replies:
                pass
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    again = results_pb2_grpc.ResultsStub(channel).ListTaskIds(results_pb2.ListTaskIdsRequest(session_id="s"))
    assert sum([len(reply.task_ids) async for reply in again]) == 10_000


@asynccontextmanager
async def running(database_url: str, objects: Path, listen: str) -> AsyncIterator["asyncio.Future[str]"]:
    """``run_control`` as the command runs it; the future has the address once it serves."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = ControlSettings(database_url, listen=listen, objects=str(objects), drain_s=0)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_control(settings, stop=stop, on_ready=ready.set_result))
        try:
            yield ready
        finally:
            stop.set()


async def test_a_database_that_takes_no_writes_yet_is_waited_for(
    postgres: EmbeddedPostgres, database_url: str, tmp_path: Path
) -> None:
    database = name_of(database_url)
    await execute(postgres, f"alter database {database} set default_transaction_read_only = on")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    async with running(database_url, tmp_path, listen) as ready, grpc.aio.insecure_channel(listen) as channel:
        async with asyncio.timeout(20):
            await channel.channel_ready()
        assert await status(channel) == NOT_SERVING
        submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submitter.ListSessions(submitter_service_pb2.SessionFilter())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not ready.done()
        await execute(postgres, f"alter database {database} set default_transaction_read_only = off")
        async with asyncio.timeout(20):
            assert await ready == listen
        await until_status(channel, SERVING)


async def test_waiting_for_a_database_can_be_ended(tmp_path: Path) -> None:
    async with asyncio.timeout(20), running("postgresql://nobody@127.0.0.1:1/x", tmp_path, "127.0.0.1:0") as ready:
        await asyncio.sleep(0.3)
    assert not ready.done()


async def test_a_part_that_ends_by_a_bug_begins_anew() -> None:
    begun: list[float] = []
    again = asyncio.Event()

    class Part:
        async def run(self) -> None:
            begun.append(asyncio.get_running_loop().time())
            if len(begun) < 3:
                raise ZeroDivisionError("oops")
            again.set()
            await asyncio.Event().wait()

    health = Health()
    keeping = asyncio.create_task(_keep_working(Part(), health))
    async with asyncio.timeout(10):
        await again.wait()
    keeping.cancel()
    assert begun[2] - begun[0] > 0.1


def test_what_a_group_of_errors_is_about() -> None:
    ours, bug, client = NotFoundError("no such"), ZeroDivisionError("x"), grpc.aio.UsageError("gone")
    group = ExceptionGroup
    assert _foremost(ours) is ours
    assert _foremost(group("one", [group("two", [ours])])) is ours
    assert _foremost(group("one", [client, group("two", [UnavailableError("y"), bug])])) is bug
    assert _foremost(group("one", [client, ours])) is ours


def test_frames_are_forgotten_of_causes_that_go_in_circles() -> None:
    first, second = UnavailableError("first"), UnavailableError("second")
    first.__cause__, second.__cause__ = second, first
    _without_frames(first)
    first.__cause__ = first
    _without_frames(first)
