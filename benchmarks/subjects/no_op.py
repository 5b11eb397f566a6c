"""P1: no-op tasks end to end: submitted, run on two workers, every result in the client's hands."""

import time

from benchmarks.clusters import Cluster, python_worker, up
from benchmarks.figures import Figure, at_least, of_rounds
from benchmarks.footprint import per_task_us, processor_s
from benchmarks.scale import Scale
from benchmarks.tasks import PAYLOAD, RESULT
from ripieno.client import Client, Session

#: The name that peers' figures of the same work have.
NAME = "no-op end to end"
HOW = "2 workers, 1 client, 1,000 a call, fsync on"


def measure(scale: Scale) -> list[Figure]:
    """The rate, and the processor time that one task takes."""
    tasks = scale.of(50_000)
    rates, costs = [], ""
    with up(python_worker("no_op")) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=1, max_duration=60)
        run(session, scale.of(5_000))  # everything is loaded and connected
        for _ in range(scale.rounds):
            rate, costs = _round(cluster, session, tasks)
            rates.append(rate)
    return [of_rounds(NAME, rates, "tasks/s", f"{tasks:,} tasks, {HOW}; us a task: {costs}", at_least(15_000))]


def run(session: Session, tasks: int, payload: bytes = PAYLOAD) -> float:
    """Submit, run and fetch; returns tasks a second."""
    began = time.perf_counter()
    got = sum(len(result.data) for result in session.results(session.submit_many([payload] * tasks)))
    took = time.perf_counter() - began
    assert got == len(RESULT) * tasks, got
    return tasks / took


def _round(cluster: Cluster, session: Session, tasks: int) -> tuple[float, str]:
    before = processor_s(cluster.roots) | {"client": time.process_time()}
    rate = run(session, tasks)
    return rate, per_task_us(before, processor_s(cluster.roots) | {"client": time.process_time()}, tasks)
