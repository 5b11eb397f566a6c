"""Processor time of one task in each kind of process, by the way it travels: ``python -m benchmarks.costs``.

Under load thousands of tasks share each message, statement and wake-up; alone, each has its own.
``docs/performance.md`` quotes the figures.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvloop

from benchmarks.bare.client import create_session, submit, submitter, wait_and_fetch
from benchmarks.clusters import Cluster, python_worker, up
from benchmarks.footprint import per_task_us, processor_s
from benchmarks.subjects.no_op import run
from ripieno.client import Client, Session

Load = Callable[[Session], int]


def _under_load(session: Session) -> int:
    run(session, 20_000)
    return 20_000


def _alone(session: Session) -> int:
    for _ in range(500):
        session.submit(b"").result(timeout=60)
    return 500


def _sleeping(session: Session) -> int:
    tasks = session.submit_many([b"0.1"] * 1_600)
    for result in session.results(tasks, timeout=120):
        assert result.data
    return 1_600


def _with_sdk(title: str, handler: str, slots: int, load: Load) -> None:
    with up(python_worker(handler), slots=slots) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=1, max_duration=60)
        session.submit(b"0.01").result(timeout=60)
        with _counted(title, cluster) as counted:
            counted.append(load(session))


async def _bare(cluster: Cluster, tasks: int) -> int:
    async with submitter(cluster.address) as stub:
        session = await create_session(stub)
        await wait_and_fetch(stub, session, await submit(stub, session, tasks))
    return tasks


@contextmanager
def _counted(title: str, cluster: Cluster) -> Iterator[list[int]]:
    """Print what the tasks cost that are counted in the list."""
    counted: list[int] = []
    before = processor_s(cluster.roots) | {"client": time.process_time()}
    began = time.perf_counter()
    yield counted
    took = time.perf_counter() - began
    after = processor_s(cluster.roots) | {"client": time.process_time()}
    tasks = counted[0]
    print(f"{title}: {tasks / took:,.0f} tasks/s; us a task: {per_task_us(before, after, tasks)}", flush=True)


def main() -> None:
    """One line for each way."""
    _with_sdk("no-op tasks under load", "no_op", 2, _under_load)
    _with_sdk("no-op tasks, one after the other", "no_op", 2, _alone)
    _with_sdk("tasks of 100 ms on 16 slots", "sleep", 16, _sleeping)
    with up(f"{sys.executable} -m benchmarks.bare.worker {{address}}") as cluster:
        uvloop.run(_bare(cluster, 200))
        with _counted("bare stubs, no-op tasks", cluster) as counted:
            counted.append(uvloop.run(_bare(cluster, 4_000)))


if __name__ == "__main__":
    main()
