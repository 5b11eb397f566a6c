"""Several replicas and agents on one database: who waits where does not matter, and who dies loses nothing."""

import asyncio
import contextlib
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

import grpc
import pytest_asyncio

from protocol.bare_client import Client
from protocol.bare_worker import Workers, bare_workers
from protocol.cluster import Process, running
from protocol.conversation import Conversation, echo, held
from protocol.deadlines import eventually
from protocol.messages import COMPLETED, by_sessions, by_tasks, options, out, task, unique

ROUNDS = 15
#: Item 7 of the aim of this suite: a wait ends within this time of a commit on another replica.
_HEARD_WITHIN_S = 0.1


@dataclass(frozen=True)
class Pair:
    """Two replicas on one database.

    Attributes:
        one, two: A client of each.
        replicas: Their processes, in the same order.
        agent_addresses: As an agent's ``--control`` takes them.
    """

    one: Client
    two: Client
    replicas: tuple[Process, Process]

    @property
    def agent_addresses(self) -> str:
        return ",".join(replica.address for replica in self.replicas)


@pytest_asyncio.fixture(loop_scope="session")
async def pair(database_url: str) -> AsyncIterator[Pair]:
    control = ("control", "--database", database_url, "--listen", "127.0.0.1:0")
    async with (
        running(*control) as first,
        running(*control) as second,
        Client(first.address) as one,
        Client(second.address) as two,
    ):
        yield Pair(one, two, (first, second))


@contextlib.asynccontextmanager
async def agent(control: str, workers: Workers) -> AsyncIterator[Process]:
    """An agent that serves these workers."""
    attach = [part for address in workers.addresses for part in ("--attach", address)]
    async with running("agent", "--control", control, *attach) as process:
        yield process


async def _time_of(wait: Awaitable[object]) -> float:
    await wait
    return time.monotonic()


async def test_a_wait_on_the_other_replica(pair: Pair) -> None:
    async with bare_workers(2) as workers, agent(pair.replicas[1].address, workers):
        session, behind = await pair.one.session(), list[float]()
        for _ in range(ROUNDS):
            name, gate = unique("other"), asyncio.Event()
            workers.behave(held(gate), name)
            await pair.one.submit(session, task(name))
            await workers.begun(name)
            waits = [
                asyncio.create_task(_time_of(wait))
                for client in (pair.one, pair.two)
                for wait in (client.wait(by_tasks(name)), client.available(session, out(name)))
            ]
            for client in (pair.one, pair.two):  # By then the waits that were sent before are under way.
                await client.statuses(name)
                await client.statuses(name)
            gate.set()
            here, here_result, there, there_result = await asyncio.gather(*waits)
            behind += [there - here, there_result - here_result]
        assert statistics.median(behind) < _HEARD_WITHIN_S / 2, behind
        assert max(behind) < 3 * _HEARD_WITHIN_S, behind


async def test_a_task_submitted_to_the_other_replica_starts_at_once(pair: Pair) -> None:
    async with bare_workers(2) as workers, agent(pair.replicas[1].address, workers):
        session, delays = await pair.one.session(), list[float]()
        for _ in range(ROUNDS):
            name, sent_at = unique("hop"), time.monotonic()
            await pair.one.submit(session, task(name))
            assert await pair.two.available(session, out(name)) is None
            delays.append(time.monotonic() - sent_at)
        assert statistics.median(delays) < 2 * _HEARD_WITHIN_S, delays


async def test_the_same_submission_to_both(pair: Pair) -> None:
    session = await pair.one.session()
    for _ in range(ROUNDS):
        same, clash = unique("same"), unique("clash")
        await asyncio.gather(*(client.submit(session, task(same, payload=b"x")) for client in (pair.one, pair.two)))
        answers = await asyncio.gather(
            pair.one.submit(session, task(clash, payload=b"one")),
            pair.two.submit(session, task(clash, payload=b"two")),
            return_exceptions=True,
        )
        [refusal] = [answer for answer in answers if answer is not None]
        assert isinstance(refusal, grpc.aio.AioRpcError)
        assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
        assert await pair.two.listed(by_tasks(same, clash)) == [same, clash]


async def test_cancel_on_one_is_heard_by_an_agent_of_the_other(pair: Pair) -> None:
    async with bare_workers(1) as workers, agent(pair.replicas[1].address, workers):
        session, name = await pair.one.session(), unique("far")
        workers.behave(held(asyncio.Event()), name)
        await pair.one.submit(session, task(name), task(f"{name} waits"))
        attempt = await workers.begun(name)

        await pair.one.cancel_session(session)

        await workers.ended(attempt)
        assert attempt.cancelled
        counts = await pair.two.finish(session)
        assert sum(counts.values()) == 2
        assert workers.attempts_of(f"{name} waits") == []


async def test_a_replica_that_dies_loses_nothing(pair: Pair) -> None:
    async with bare_workers(2) as workers, agent(pair.agent_addresses, workers) as process:
        session = await pair.two.session(default=options(max_retries=2))
        names = [unique("survivor") for _ in range(300)]
        await pair.two.submit(session, *(task(name, payload=name.encode()) for name in names))
        await eventually(lambda: len(workers.attempts) > 50, "some tasks ran")
        # The replica that the agent dialled: the first of its list, or the other; both in turn would end it all.
        pair.replicas[0].kill()

        assert await pair.two.finish(session) == {COMPLETED: 300}
        for name in names:
            assert await pair.two.result(session, out(name)) == name.encode()
        assert process.exit_status is None


async def test_an_agent_that_is_told_to_stop_finishes_what_runs(pair: Pair) -> None:
    async with bare_workers(1) as workers, bare_workers(1) as others:
        session = await pair.one.session()
        running_name, waiting, gate = unique("drained"), [unique("handed") for _ in range(5)], asyncio.Event()
        workers.behave(held(gate), running_name)
        async with agent(pair.agent_addresses, workers) as first:
            await pair.one.submit(session, task(running_name), *map(task, waiting))
            await workers.begun(running_name)
            first.signal(signal.SIGTERM)
            async with agent(pair.agent_addresses, others):
                await pair.one.wait(by_tasks(*waiting))
                assert first.exit_status is None
                gate.set()
                assert await pair.one.finish(session) == {COMPLETED: 6}
                await eventually(lambda: first.exit_status is not None, "the drained agent ends")
        assert [each.task_id for each in workers.attempts] == [running_name]
        assert sorted(each.task_id for each in others.attempts) == sorted(waiting)


async def test_an_agent_that_dies_is_a_dead_worker(pair: Pair) -> None:
    async with bare_workers(1) as workers, bare_workers(1) as others:
        session = await pair.one.session(default=options(max_retries=1))
        name, hopeless = unique("orphan"), unique("hopeless")

        async def retried(call: Conversation) -> None:
            await (echo if "###" in call.attempt.task_id else held(asyncio.Event()))(call)

        workers.behave(retried, name)
        others.behave(retried, name)
        async with agent(pair.agent_addresses, workers) as first:
            await pair.one.submit(session, task(name), task(hopeless))
            await workers.begun(name)
            first.kill(first.tree())
        async with agent(pair.agent_addresses, others):
            assert await pair.one.available(session, out(name), timeout_s=60) is None
        assert [each.task_id for each in others.attempts_of(name)] == [f"{name}###1"]
        assert await pair.one.finish(session) == {COMPLETED: 2}
        assert await pair.one.listed(by_sessions(session)) == [name, hopeless]
