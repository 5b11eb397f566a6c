"""P9: dependencies: diamonds (one task, a hundred that need it, one that needs them all), and a chain."""

import time
import uuid

from benchmarks.clusters import python_worker, up
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.scale import Scale
from ripieno.client import Client, Session, TaskDefinition

WIDTH = 100


def measure(scale: Scale) -> list[Figure]:
    """Tasks a second in diamonds; time a link of the chain."""
    diamonds, links = scale.of(980), scale.of(1_000)
    with up(python_worker("no_op")) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=1, max_duration=60)
        _run(session, _chain(10))
        tasks = [task for _ in range(diamonds) for task in _diamond()]
        rate = len(tasks) / _run(session, tasks)
        link_ms = _run(session, _chain(links)) / links * 1e3
    how = "2 workers, 1 client, 1,000 a call, submitted whole before the first result is read, fsync on"
    return [
        Figure(
            "diamonds", rate, "tasks/s", f"{len(tasks):,} tasks, fan-out and fan-in {WIDTH}, {how}", at_least(5_000)
        ),
        Figure("chain, a link", link_ms, "ms", f"{links:,} tasks, each needs the one before, {how}", at_most(4)),
    ]


def _run(session: Session, tasks: list[TaskDefinition]) -> float:
    """Submit and wait for every result; returns seconds."""
    began = time.perf_counter()
    for result in session.results(session.submit_many(tasks), timeout=200):
        assert result.error is None, result.error
    return time.perf_counter() - began


def _diamond() -> list[TaskDefinition]:
    name = str(uuid.uuid4())
    middle = [f"{name}/{number}" for number in range(WIDTH)]
    return [
        TaskDefinition(id=f"{name}/top"),
        *(TaskDefinition(id=task_id, dependencies=[f"{name}/top"]) for task_id in middle),
        TaskDefinition(id=f"{name}/bottom", dependencies=middle),
    ]


def _chain(links: int) -> list[TaskDefinition]:
    name = str(uuid.uuid4())
    return [
        TaskDefinition(id=f"{name}/{number}", dependencies=[f"{name}/{number - 1}"] if number else ())
        for number in range(links)
    ]
