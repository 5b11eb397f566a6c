"""P7: uneven tasks, half very short, half long, shuffled: is a slot ever idle while a task waits?"""

import random
from collections import defaultdict

from benchmarks.clusters import python_worker, up
from benchmarks.figures import Figure, at_most
from benchmarks.scale import Scale
from benchmarks.subjects.utilisation import busy_share, run, wait_for_workers
from benchmarks.tasks import Ran
from ripieno.client import Client

SLOTS = 8
SHORT_S, LONG_S = 0.001, 0.5
_SEED = 7


def measure(scale: Scale) -> list[Figure]:
    """The longest idle time of a slot before the last task began."""
    tasks = scale.of(800, 160)
    lengths = [SHORT_S, LONG_S] * (tasks // 2)
    random.Random(_SEED).shuffle(lengths)
    with up(python_worker("sleep"), slots=SLOTS) as cluster, Client(cluster.address) as client:
        session = client.session(max_retries=0, max_duration=60)
        wait_for_workers(session, SLOTS)
        ran = run(session, lengths)
    idle_ms = longest_idle_s(ran, SLOTS) * 1e3
    how = f"{tasks:,} tasks, half 1 ms, half 500 ms, shuffled, {SLOTS} workers, by the tasks' own clocks, fsync on"
    return [
        Figure("uneven tasks, longest idle slot", idle_ms, "ms", how, at_most(20)),
        Figure("uneven tasks, utilisation", busy_share(ran, SLOTS) * 100, "%", f"{how}; the last tasks' tail included"),
    ]


def longest_idle_s(ran: list[Ran], slots: int) -> float:
    """The longest time that a slot stood idle while a task had not begun.

    All tasks are submitted before; one is claimable until it begins. Time counts from the
    first start on; after the last start nothing waits any more.
    """
    first, last = min(one.began_ns for one in ran), max(one.began_ns for one in ran)
    by_worker: dict[int, list[Ran]] = defaultdict(list)
    for one in sorted(ran):
        by_worker[one.worker].append(one)
    idle_ns = [0] if len(by_worker) == slots else [last - first]
    for mine in by_worker.values():
        begins = [*(one.began_ns for one in mine), last]
        ends = [first, *(one.ended_ns for one in mine)]
        idle_ns += [min(begin, last) - end for end, begin in zip(ends, begins, strict=True)]
    return max(idle_ns) / 1e9
