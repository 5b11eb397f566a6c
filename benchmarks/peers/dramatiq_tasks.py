"""Dramatiq with Redis: a group of messages, results from its Redis backend."""

import subprocess
import sys

import dramatiq  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers.broker import end, redis
from benchmarks.peers.order import PAYLOAD, Answer, Order, answer, rates, singles_ms

_TIMEOUT_MS = 300_000


def measure(order: Order) -> Answer:
    """Worker processes with as many threads as they have by default: with one each, a third of the rate."""
    with redis(order.scratch) as redis_version:
        from benchmarks.peers.dramatiq_app import actor

        command = [sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq_app"]
        command += ["--processes", str(order.workers), "--skip-logging"]
        with subprocess.Popen(command) as workers:
            try:
                actor.send(PAYLOAD).get_result(block=True, timeout=60_000)

                def run(count: int) -> int:
                    group = dramatiq.group(actor.message(PAYLOAD) for _ in range(count)).run()
                    return sum(1 for _ in group.get_results(block=True, timeout=_TIMEOUT_MS))

                found = rates(order, run)
                alone = singles_ms(order, lambda: actor.send(PAYLOAD).get_result(block=True, timeout=30_000))
            finally:
                end(workers)
    how = f"one group, processes of eight threads (the default), Redis {redis_version} without snapshots or log: nothing is kept"
    return Answer(dramatiq.__version__, how, found, alone)


if __name__ == "__main__":
    answer(measure)
