"""P10: large results, many middling ones, and one dependency that many tasks share."""

import time

import psutil

from benchmarks.clusters import Cluster, python_worker, up
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.footprint import pids
from benchmarks.scale import Scale
from ripieno.client import Client, Session, TaskDefinition

_MB = 1e6
_MIB = 1024 * 1024

#: Each of the sharing tasks gets the dependency over its worker's socket, so the last part
#: is ended after a while: how often the store was read is known much earlier.
_SHARING_S = 120.0


def measure(scale: Scale) -> list[Figure]:
    """Megabytes (10^6) a second through the whole house, and reads of the store."""
    with up(python_worker("make_or_read")) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=0, max_duration=300)
        session.submit(b"1").result(timeout=60)
        return [
            *_one(session, scale.of(1024, 64)),
            _many(session, scale.of(1_000, 50)),
            *_shared(cluster, session, scale.of(100, 20), scale.of(1_000, 40)),
        ]


def _one(session: Session, mib: int) -> list[Figure]:
    began = time.perf_counter()
    task = session.submit(f"{mib}".encode())
    session.wait(task, timeout=240)
    made = time.perf_counter()
    got = sum(len(piece) for piece in session.result_chunks(task, timeout=10))
    ended = time.perf_counter()
    assert got == mib * _MIB, got
    how = f"1 result of {mib:,} MiB, 1 client, chunks of 84,000 bytes, objects in a directory"
    return [
        Figure("one large result, whole way", got / _MB / (ended - began), "MB/s", how, at_least(300)),
        Figure("one large result, worker to store", got / _MB / (made - began), "MB/s", how),
        Figure("one large result, store to client", got / _MB / (ended - made), "MB/s", how),
    ]


def _many(session: Session, results: int) -> Figure:
    began = time.perf_counter()
    tasks = session.submit_many([b"1"] * results)
    got = sum(len(result.data) for result in session.results(tasks, timeout=240))
    rate = got / _MB / (time.perf_counter() - began)
    assert got == results * _MIB, got
    how = f"{results:,} results of 1 MiB, 2 workers, 1 client, fetched as they come, 4 at a time"
    return Figure("many results of 1 MiB", rate, "MB/s", how, at_least(300))


def _shared(cluster: Cluster, session: Session, mib: int, tasks: int) -> list[Figure]:
    """One agent, one large result, many readers: how often the control plane reads it from the object store."""
    source = session.submit(f"{mib}".encode())
    session.wait(source, timeout=120)
    before, began = _file_reads(cluster), time.perf_counter()
    readers = session.submit_many([TaskDefinition(dependencies=source)] * tasks)
    ran = 0
    try:
        for result in session.results(readers, timeout=_SHARING_S):
            assert int(result.data) == mib * _MIB, result.data
            ran += 1
    except TimeoutError:
        session.cancel()
    took = time.perf_counter() - began
    reads = (_file_reads(cluster) - before) / (mib * _MIB)
    how = f"{mib} MiB needed by each of {tasks:,} tasks ({ran:,} of them ran in {took:.0f} s), 1 agent, 2 workers"
    return [
        Figure("shared dependency, reads of the store", reads, "times", how, at_most(1.5)),
        Figure("shared dependency, into the workers", ran * mib * _MIB / _MB / took, "MB/s", how),
    ]


def _file_reads(cluster: Cluster) -> int:
    """Bytes that the control plane has read from files so far (what comes by sockets is not among them)."""
    return sum(int(psutil.Process(pid).io_counters().read_chars) for pid in pids(cluster.roots, "control"))
