"""P3: one task at a time on an idle cluster, from the call to the result."""

import time

from benchmarks.clusters import python_worker, up
from benchmarks.figures import Figure, at_most, percentile
from benchmarks.scale import Scale
from benchmarks.tasks import PAYLOAD
from ripieno.client import Client

#: The names that peers' figures of the same work have.
P50 = "one task alone, p50"
P99 = "one task alone, p99"


def measure(scale: Scale) -> list[Figure]:
    """Percentiles of the time of one task."""
    tasks = scale.of(1_000)
    times = []
    with up(python_worker("no_op")) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=1, max_duration=60)
        for _ in range(tasks + 20):
            began = time.perf_counter()
            session.submit(PAYLOAD).result(timeout=30)
            times.append((time.perf_counter() - began) * 1e3)
    del times[:20]  # connecting, loading
    how = f"{tasks:,} tasks, 1 client, one at a time, 2 idle workers, fsync on"
    return [
        Figure(P50, percentile(times, 0.5), "ms", how, at_most(2)),
        Figure(P99, percentile(times, 0.99), "ms", how, at_most(6)),
    ]
