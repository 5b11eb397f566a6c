"""HyperQueue: one job of many tasks. A task is a program there, so there are no worker processes that stay."""

import itertools
from importlib.metadata import version

from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found, import-untyped, unused-ignore]
from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers.order import RESULT, Answer, Order, answer, rates


def measure(order: Order) -> Answer:
    """A local server and one worker with as many cores as the others have processes."""
    numbers = itertools.count()
    with LocalCluster(worker_config=WorkerConfig(cores=order.workers)) as cluster:
        client = cluster.client()

        def run(count: int) -> int:
            place = order.scratch / f"job-{next(numbers)}"
            place.mkdir()
            job = Job(default_workdir=place)
            for _ in range(count):
                job.program(["/bin/echo", "-n", RESULT], stderr=None)
            client.wait_for_jobs([client.submit(job)])
            return sum(1 for file in place.glob("*.stdout") if file.read_text() == RESULT)

        found = rates(order, run)
    how = "one job, each task one /bin/echo whose output is a file; no journal: nothing is kept"
    return Answer(version("hyperqueue"), how, found, [])


if __name__ == "__main__":
    answer(measure)
