"""P10: large results, many middling ones, and one dependency that many tasks share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import psutil

from benchmarks.clusters import Cluster, agent, control, postgres, python_worker, up
from benchmarks.figures import Figure, Target, at_least, at_most
from benchmarks.footprint import pids
from benchmarks.scale import Scale
from ripieno.client import Client, Session, TaskDefinition

_MB = 1e6
_MIB = 1024 * 1024

#: Where agent, workers and client are on other machines than the control plane, and share no file system with it.
_ELSEWHERE = ", elsewhere"

#: 100 GiB pass through the sharing tasks: a machine that is slow at that does not keep the others waiting. How
#: often the store was read is known much earlier.
_SHARING_S = 120.0


def measure(scale: Scale) -> list[Figure]:
    """Megabytes (10^6) a second through the whole house, and reads of the store."""
    one, many = scale.of(1024, 64), scale.of(1_000, 50)
    with up(python_worker("make_or_read")) as cluster, Client(cluster.address) as client:
        session = _session(client)
        figures = [
            *_one(session, one, "", at_least(300)),
            _many(session, many, "", at_least(300)),
            *_shared(cluster, session, scale.of(100, 20), scale.of(1_000, 40)),
        ]
    with _elsewhere() as client:
        session = _session(client)
        figures += [*_one(session, one, _ELSEWHERE, None), _many(session, many, _ELSEWHERE, None)]
    return figures


def _session(client: Client) -> Session:
    session = client.session(max_retries=0, max_duration=300)
    session.submit(b"1").result(timeout=60)
    return session


@contextmanager
def _elsewhere() -> Iterator[Client]:
    """A cluster whose agent, workers and client do not see the control plane's directory of objects."""
    with (
        TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True) as place,
        postgres(Path(place) / "data") as database,
        control(database, Path(place) / "objects") as (_, address),
        agent(address, python_worker("make_or_read"), changing="ripieno.objects:is_readable=lambda _: False"),
        patch("ripieno.client.connection.object_files.is_readable", return_value=False),
        Client(address) as client,
    ):
        yield client


def _one(session: Session, mib: int, where: str, target: Target | None) -> list[Figure]:
    began = time.perf_counter()
    task = session.submit(f"{mib}".encode())
    session.wait(task, timeout=240)
    made = time.perf_counter()
    got = sum(len(piece) for piece in session.result_chunks(task, timeout=10))
    ended = time.perf_counter()
    assert got == mib * _MIB, got
    how = f"1 result of {mib:,} MiB, 1 client, objects in a directory, each on the disk before its commit"
    return [
        Figure(f"one large result, whole way{where}", got / _MB / (ended - began), "MB/s", how, target),
        Figure(f"one large result, worker to store{where}", got / _MB / (made - began), "MB/s", how),
        Figure(f"one large result, store to client{where}", got / _MB / (ended - made), "MB/s", how),
    ]


def _many(session: Session, results: int, where: str, target: Target | None) -> Figure:
    began = time.perf_counter()
    tasks = session.submit_many([b"1"] * results)
    got = sum(len(result.data) for result in session.results(tasks, timeout=240))
    rate = got / _MB / (time.perf_counter() - began)
    assert got == results * _MIB, got
    how = f"{results:,} results of 1 MiB, 2 workers, 1 client, fetched as they come"
    return Figure(f"many results of 1 MiB{where}", rate, "MB/s", how, target)


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
