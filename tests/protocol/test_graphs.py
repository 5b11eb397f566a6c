"""Parts 3 and 4: graphs of tasks, submitted or grown, of many shapes."""

import asyncio
import random

import grpc
import pytest

from protocol.bare_client import ABORTED, Client, perhaps_refused, reasons
from protocol.bare_worker import Workers
from protocol.conversation import Behaviour, Conversation, making_results
from protocol.graphs import Vertex, add, chain, descendants, diamonds, in_batches, random_graph, values
from protocol.messages import COMPLETED, ERROR, by_sessions, options, out, task, unique
from protocol.trees import first_task, growing, random_shape

SEEDS = [1, 2, 3]


async def _values_of(client: Client, session: str, names: list[str]) -> dict[str, int]:
    found = {}
    for start in range(0, len(names), 100):
        part = names[start : start + 100]
        data = await asyncio.gather(*(client.result(session, out(name)) for name in part))
        found.update({name: int(value) for name, value in zip(part, data, strict=True)})
    return found


@pytest.mark.parametrize(
    ("seed", "size", "levels"),
    [
        (1, 150, 3),
        (2, 200, 5),
        (3, 100, 6),
        pytest.param(4, 5_000, 6, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
        pytest.param(5, 5_000, 4, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
        pytest.param(6, 3_000, 6, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_random_trees(client: Client, workers: Workers, seed: int, size: int, levels: int) -> None:
    session = await client.session(default=options(max_retries=1))
    root = random_shape(unique("tree"), random.Random(seed), size, levels)
    workers.behave(growing(root, fail_first=0.1, seed=seed), session)

    await client.submit(session, first_task(root))

    assert await client.available(session, root.name, timeout_s=500) is None
    assert await client.result(session, root.name) == str(root.value).encode()
    assert await client.finish(session) == {COMPLETED: root.tasks}
    failed = {attempt.task_id for attempt in workers.attempts_in(session) if "###1" in attempt.task_id}
    assert 0.03 * root.tasks < len(failed) < 0.25 * root.tasks


async def test_a_chain(client: Client, workers: Workers) -> None:
    session, vertices = await client.session(), chain(unique("chain"), 200)
    workers.behave(add, session)

    await client.submit(session, *(vertex.request for vertex in vertices))

    assert await client.available(session, out(vertices[-1].name), timeout_s=60) is None
    assert await client.result(session, out(vertices[-1].name)) == str(200 * 201 // 2).encode()
    order = [attempt.task_id for attempt in workers.attempts_in(session)]
    assert order == [vertex.name for vertex in vertices]


async def test_diamonds(client: Client, workers: Workers) -> None:
    session, vertices = await client.session(), diamonds(unique("diamond"), 15, 6)
    workers.behave(add, session)

    await client.submit(session, *(vertex.request for vertex in vertices))

    assert await client.finish(session) == {COMPLETED: len(vertices)}
    last = vertices[-1].name
    assert (await _values_of(client, session, [last]))[last] == values(vertices)[last]


@pytest.mark.parametrize("seed", SEEDS)
async def test_keys_announced_after_their_consumers(client: Client, workers: Workers, seed: int) -> None:
    generator = random.Random(seed)
    session, vertices = await client.session(), random_graph(unique("shuffled"), generator, 200)
    workers.behave(add, session)
    batches = in_batches(generator.sample(vertices, len(vertices)), 7)
    # Several calls at once: submissions cross the commits of tasks that were submitted before.
    at_once = asyncio.Semaphore(6)

    async def submit(number: int) -> None:
        async with at_once:
            await (client.submit if number % 3 else client.submit_large)(session, *batches[number])

    await asyncio.gather(*map(submit, range(len(batches))))

    assert await client.finish(session) == {COMPLETED: len(vertices)}
    assert await _values_of(client, session, [vertex.name for vertex in vertices]) == values(vertices)
    assert len(workers.attempts_in(session)) == len(vertices)


async def test_a_key_that_is_completed_while_its_consumers_are_submitted(client: Client, workers: Workers) -> None:
    session = await client.session()
    workers.behave(add, session)
    for _ in range(40):
        source = Vertex(unique("source"), 5)
        readers = [Vertex(unique("reader"), number, [source]) for number in range(8)]
        await asyncio.gather(
            client.submit(session, source.request), *(client.submit(session, reader.request) for reader in readers)
        )

    assert await client.finish(session) == {COMPLETED: 40 * 9}


async def test_two_last_dependencies_at_once(client: Client, workers: Workers) -> None:
    """Two commits that each complete one of the last two dependencies: one of them must promote."""
    session, gate = await client.session(), asyncio.Event()

    async def together(call: Conversation) -> None:
        given = await call.task()
        if not given.data:
            await gate.wait()
        await call.send_result(given.expected_output_keys[0], given.payload)
        await call.ok()

    workers.behave(together, session)
    for _ in range(25):
        gate.clear()
        sources = [unique("source") for _ in range(workers.size)]
        reader = unique("reader")
        await client.submit(session, *map(task, sources), task(reader, needs=[out(name) for name in sources]))
        for name in sources:
            await workers.begun(name)
        gate.set()
        assert await client.available(session, out(reader)) is None


async def test_very_many_dependents_of_one_result(client: Client, workers: Workers) -> None:
    """More than are promoted by the commit that completes it: the others follow in steps."""
    session, source, made = await client.session(default=options(max_duration_s=100)), unique("source"), unique("key")
    readers = [unique("reader") for _ in range(3_500)]
    workers.behave(making_results({made: b"x"}), source)
    for start in range(0, len(readers), 500):
        await client.submit(session, *(task(name, [], needs=[made]) for name in readers[start : start + 500]))
    await client.submit(session, task(source, [made]))
    assert await client.finish(session) == {COMPLETED: len(readers) + 1}


async def test_ten_thousand_dependencies_of_one_task(client: Client, workers: Workers) -> None:
    session, reader = await client.session(default=options(max_duration_s=100)), unique("fan-in")
    keys = {unique("fan-in"): [unique("key") for _ in range(1_000)] for _ in range(10)}
    received: list[str] = []

    async def read(call: Conversation) -> None:
        given = await call.task()
        received.extend(given.data)
        assert all(data == key.encode() for key, data in given.data.items())
        await call.ok()

    for name, made in keys.items():
        workers.behave(making_results({key: key.encode() for key in made}), name)
    workers.behave(read, reader)
    needs = [key for made in keys.values() for key in made]
    random.Random(1).shuffle(needs)
    await client.submit(session, task(reader, [], needs=needs))
    await client.submit(session, *(task(name, made) for name, made in keys.items()))

    assert await client.finish(session, timeout_s=110) == {COMPLETED: 11}
    assert received == needs


@pytest.mark.parametrize("size", [1_000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_a_fan_in_of_tasks(client: Client, workers: Workers, size: int) -> None:
    session = await client.session(default=options(max_duration_s=300))
    sources = [Vertex(unique("in"), number) for number in range(size)]
    last = Vertex(unique("last"), 0, sources)
    workers.behave(add, session)

    await client.submit(session, last.request)
    for batch in in_batches(sources, 1_000):
        await client.submit(session, *batch)

    assert await client.available(session, out(last.name), timeout_s=500) is None
    assert await _values_of(client, session, [last.name]) == {last.name: size * (size - 1) // 2}


async def test_a_fan_out(client: Client, workers: Workers) -> None:
    session, source = await client.session(), Vertex(unique("source"), 7)
    readers = [Vertex(unique("out"), number, [source]) for number in range(1_000)]
    workers.behave(add, session)

    await client.submit(session, *(reader.request for reader in readers), source.request)

    assert await client.finish(session) == {COMPLETED: 1_001}
    assert await _values_of(client, session, [reader.name for reader in readers]) == {
        reader.name: 7 + reader.number for reader in readers
    }


def _failing(vertex: Vertex) -> Behaviour:
    async def behaviour(call: Conversation) -> None:
        if call.attempt.task_id == vertex.name:
            await call.task()
            await call.error("the middle is broken")
        else:
            await add(call)

    return behaviour


async def test_an_abort_in_the_middle(client: Client, workers: Workers) -> None:
    session, vertices = await client.session(), random_graph(unique("abort"), random.Random(9), 1_000)
    lost: set[str] = set()
    middle = next(vertex for vertex in vertices[300:] if len(lost := descendants(vertices, vertex)) > 200)
    workers.behave(_failing(middle), session)

    for batch in in_batches(vertices, 100):
        await client.submit(session, *batch)

    assert await client.finish(session) == {COMPLETED: 1_000 - len(lost) - 1, ERROR: len(lost) + 1}
    assert set(await client.listed(by_sessions(session, included=[ERROR]))) == {middle.name} | lost
    assert {attempt.task_id for attempt in workers.attempts_in(session)} & lost == set()
    statuses = await client.result_statuses(session, *map(out, lost))
    assert set(statuses.values()) == {ABORTED}
    for name in lost:
        story = " ".join(reasons(await client.available(session, out(name))))
        for part in (middle.name, "the middle is broken"):  # of a long way only the beginning and the root are told
            assert part in story, f"{part!r} is not in {story!r}"


async def test_an_abort_of_a_long_chain(client: Client, workers: Workers) -> None:
    session, vertices = await client.session(), chain(unique("chain"), 1_000)
    workers.behave(_failing(vertices[1]), session)

    await client.submit(session, *(vertex.request for vertex in vertices))

    assert await client.finish(session) == {COMPLETED: 1, ERROR: 999}
    [reason] = reasons(await client.available(session, out(vertices[-1].name)))
    assert vertices[1].name in reason and "the middle is broken" in reason
    assert vertices[-2].name in reason
    assert len(reason.encode()) < 8_000, "a detail must fit the trailers of a call"
    assert len(workers.attempts_in(session)) == 2


async def test_a_circle_is_cancelled_like_any_other(client: Client) -> None:
    """Nothing forbids tasks that wait for each other; they end when somebody says so."""
    session, one, two = await client.session(), unique("circle"), unique("circle")
    await client.submit(session, task(one, needs=[out(two)]), task(two, needs=[out(one)]))
    with perhaps_refused(grpc.StatusCode.INVALID_ARGUMENT):
        await client.submit(session, task(unique("own"), ["own"], needs=["own"]))

    await client.cancel_session(session)

    assert COMPLETED not in await client.finish(session)
    assert await client.available(session, out(one)) is not None
