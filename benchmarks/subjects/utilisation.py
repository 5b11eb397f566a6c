"""P6: how busy slots are kept by tasks of equal length: the sum of their times over slots times makespan."""

from benchmarks.clusters import python_worker, up
from benchmarks.figures import Figure, Target, at_least
from benchmarks.scale import Scale
from benchmarks.tasks import Ran
from ripieno.client import Client, Session

#: Length of a task, slots, tasks a slot (whole, quick), the share in per cent.
_CASES = (
    (1.0, 32, 10, 3, at_least(99.7)),
    (0.1, 16, 100, 20, at_least(99.0)),
    (0.01, 2, 1_000, 200, at_least(95.0)),
)


def measure(scale: Scale) -> list[Figure]:
    """One figure a case, each on a cluster of its own."""
    return [
        _case(length_s, slots, slots * scale.of(whole, quick), target)
        for length_s, slots, whole, quick, target in _CASES
    ]


def _case(length_s: float, slots: int, tasks: int, target: Target) -> Figure:
    with up(python_worker("sleep"), slots=slots) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=0, max_duration=60)
        wait_for_workers(session, slots)
        ran = run(session, [length_s] * tasks)
    share = busy_share(ran, slots) * 100
    how = f"{tasks:,} tasks, {slots} workers, from the first start to the last end, by the tasks' own clocks, fsync on"
    return Figure(f"utilisation, {length_s * 1e3:g} ms tasks on {slots} slots", share, "%", how, target)


def wait_for_workers(session: Session, slots: int) -> None:
    """Run short tasks until every worker was seen: what comes then meets no start-up.

    Raises:
        RuntimeError: not all of them were seen.
    """
    seen: set[int] = set()
    for _ in range(100):
        seen |= {one.worker for one in run(session, [0.05] * slots)}
        if len(seen) == slots:
            return
    raise RuntimeError(f"only {len(seen)} of {slots} workers ever ran a task")


def run(session: Session, lengths_s: list[float]) -> list[Ran]:
    """Run tasks of these lengths; when and where each ran, in the order of their starts."""
    tasks = session.submit_many([f"{length_s:g}".encode() for length_s in lengths_s])
    return sorted(Ran.read(result.data) for result in session.results(tasks, timeout=200))


def busy_share(ran: list[Ran], slots: int) -> float:
    """The sum of the tasks' times over slots times makespan."""
    makespan_s = (max(one.ended_ns for one in ran) - min(one.began_ns for one in ran)) / 1e9
    return sum(one.took_s for one in ran) / (slots * makespan_s)
