"""The blocking client: the same calls, from threads without a loop."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

import ripieno.client
from ripieno.client import (
    AsyncClient,
    AsyncSession,
    AsyncTask,
    Client,
    NotFoundError,
    Session,
    Task,
    TaskDefinition,
    TaskStatus,
)
from unit.client.cluster import FakeCluster

T = TypeVar("T")


async def in_thread(cluster: FakeCluster, program: Callable[[Client], T]) -> T:
    """Run a blocking program beside the cluster's loop."""

    def run() -> T:
        with Client(cluster.address, patience=5) as client:
            return program(client)

    return await asyncio.to_thread(run)


async def test_the_program_of_the_readme(cluster: FakeCluster) -> None:
    def program(client: Client) -> dict[str, bytes]:
        session = client.session(max_retries=1)
        tasks = session.submit_many(str(n).encode() for n in range(1_500))
        assert all(isinstance(task, Task) for task in tasks)
        return {result.task.id: result.data for result in session.results(tasks, timeout=5)}

    got = await in_thread(cluster, program)
    assert sorted(map(int, got.values())) == list(range(1_500))


async def test_every_call_has_its_blocking_form(cluster: FakeCluster, tmp_path: Path) -> None:
    def program(client: Client) -> None:
        session = client.session(priority=3, id="mine")
        assert session.task_options is not None
        assert session.task_options.priority == 3
        task = session.submit(b"abc", id="t")
        large = session.submit(TaskDefinition(bytes(9_000), "large"))
        assert task.result(timeout=5) == b"abc"
        assert task.status() is TaskStatus.COMPLETED
        assert session.wait([task, large], timeout=5) == session.counts() == {TaskStatus.COMPLETED: 2}
        assert session.status() == {"t": TaskStatus.COMPLETED, large.id: TaskStatus.COMPLETED}
        assert list(session.result_chunks(task)) == [b"abc"]
        assert session.download(task, tmp_path / "result") == 3
        assert client.open_session("mine").task_ids() == ["t", large.id]
        assert [(result.task, result.data) for result in session.results(["t"])] == [(None, b"abc")]
        assert session.result_status("t")
        task.cancel()
        session.cancel()
        with pytest.raises(NotFoundError):
            client.open_session("other")

    await in_thread(cluster, program)


async def test_an_iteration_may_be_broken_off(cluster: FakeCluster) -> None:
    def program(client: Client) -> int:
        session = client.session()
        tasks = session.submit_many([b"x"] * 1_000)
        for _ in session.results(tasks):
            break
        return sum(1 for _ in session.results(tasks, timeout=5))

    assert await in_thread(cluster, program) == 1_000


async def test_tasks_may_be_made_from_results(cluster: FakeCluster) -> None:
    """The iterable runs in the caller's thread, where it may call the client itself."""

    def program(client: Client) -> list[bytes]:
        session = client.session()
        first = session.submit_many([b"1", b"2"])
        second = session.submit_many(task.result(timeout=5) * 2 for task in first)
        return [task.result(timeout=5) for task in second]

    assert await in_thread(cluster, program) == [b"11", b"22"]


async def test_many_threads_share_a_client(cluster: FakeCluster) -> None:
    def program(client: Client) -> list[bytes]:
        session = client.session()
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda n: session.submit(b"%d" % n).result(timeout=5), range(200)))

    assert await in_thread(cluster, program) == [b"%d" % n for n in range(200)]


async def test_a_time_limit_is_pythons_own(cluster: FakeCluster) -> None:
    cluster.echo = False

    def program(client: Client) -> None:
        session = client.session()
        task = session.submit(b"")
        with pytest.raises(TimeoutError, match=r"not here after 0\.05 s"):
            task.result(timeout=0.05)
        with pytest.raises(TimeoutError, match="not all results"):
            next(session.results([task], timeout=0.05))

    await in_thread(cluster, program)


async def test_a_closed_client_says_so(cluster: FakeCluster) -> None:
    def program(client: Client) -> None:
        session = client.session()
        iterator = session.results(session.submit_many([b"x"] * 500))
        next(iterator)
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match="client is closed"):
            session.counts()
        del iterator

    await in_thread(cluster, program)


async def test_closing_ends_the_calls_of_other_threads(cluster: FakeCluster) -> None:
    cluster.echo = False
    clients: list[Client] = []

    def program() -> None:
        clients.append(Client(cluster.address))
        session = clients[0].session()
        with pytest.raises(RuntimeError, match="client was closed"):
            session.wait(session.submit(b""))

    caller = asyncio.create_task(asyncio.to_thread(program))
    await cluster.until(lambda: cluster.calls["WaitForCompletion"] == 1)
    await asyncio.to_thread(clients[0].close)
    await caller


async def test_a_forgotten_client_ends_its_thread(cluster: FakeCluster) -> None:
    """In a process of its own: all blocking clients of a process share the thread, those of other tests too."""
    program = """
import gc, sys, threading
from ripieno.client import Client

def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ripieno-client"]

session = Client(sys.argv[1]).session()
session.submit(b"")
assert threads()
del session
gc.collect()
assert not threads()
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cluster.address)
    assert await process.wait() == 0


def test_grpcio_and_protobuf_are_enough() -> None:
    program = "import sys, ripieno.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncpg", "click", "obstore", "rich", "structlog", "uvloop"} & set(loaded)


def test_public_names_are_listed_and_there() -> None:
    names = ripieno.client.__all__
    assert names == sorted(names)
    assert all(hasattr(ripieno.client, name) for name in names)


@pytest.mark.parametrize(
    ("blocking", "implementation"), [(Client, AsyncClient), (Session, AsyncSession), (Task, AsyncTask)]
)
def test_both_flavours_take_the_same(blocking: type, implementation: type) -> None:
    internal = {"send", "result_batches", "start", "follower"}
    for name, method in vars(implementation).items():
        if name.startswith("_") or name in internal or not inspect.isfunction(method):
            continue
        ours = inspect.signature(getattr(blocking, name)).parameters
        assert list(ours.values()) == list(inspect.signature(method).parameters.values()), name
        assert getattr(blocking, name).__doc__, name
