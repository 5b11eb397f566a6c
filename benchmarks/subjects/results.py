"""P5: results alone: small ones, finished before, to a client that asks for them anew."""

import time

from benchmarks.clusters import python_worker, up
from benchmarks.figures import Figure, at_least, of_rounds
from benchmarks.scale import Scale
from benchmarks.tasks import PAYLOAD, RESULT
from ripieno.client import Client


def measure(scale: Scale) -> list[Figure]:
    """The rate of results that are followed once they are all there."""
    tasks = scale.of(100_000)
    rates = []
    with up(python_worker("no_op")) as cluster:
        with Client(cluster.address) as client:
            session = client.session(max_retries=1, max_duration=60)
            keys = [task.key for task in session.submit_many([PAYLOAD] * tasks)]
            session.wait(timeout=150)
        for _ in range(scale.rounds):
            with Client(cluster.address) as client:
                session = client.open_session(session.id)
                began = time.perf_counter()
                got = sum(len(result.data) for result in session.results(keys))
                rates.append(tasks / (time.perf_counter() - began))
                assert got == len(RESULT) * tasks, got
    how = f"{tasks:,} results of 100 bytes, finished before, 1 client, followed on one stream"
    return [of_rounds("results alone", rates, "results/s", how, at_least(50_000))]
