"""Celery with Redis: a group of tasks, prefork workers that fetch far ahead."""

import subprocess
import sys

import celery  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.peers.broker import end, redis
from benchmarks.peers.order import PAYLOAD, Answer, Order, answer, rates, singles_ms

_TIMEOUT_S = 300.0


def measure(order: Order) -> Answer:
    """One worker program with a pool of processes."""
    with redis(order.scratch) as redis_version:
        from benchmarks.peers.celery_app import PREFETCH, app, task

        command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_app", "worker", "--pool", "prefork"]
        command += ["--concurrency", str(order.workers), "--without-gossip", "--without-mingle", "-l", "warning"]
        with subprocess.Popen(command) as workers:
            try:
                task.delay(PAYLOAD).get(timeout=60.0)

                def run(count: int) -> int:
                    group = celery.group(task.s(PAYLOAD) for _ in range(count))
                    return len(group.apply_async().get(timeout=_TIMEOUT_S))

                found = rates(order, run)
                alone = singles_ms(order, lambda: task.delay(PAYLOAD).get(timeout=30.0))
            finally:
                end(workers)
                app.close()
    how = f"one group, prefetch multiplier {PREFETCH}, Redis {redis_version} without snapshots or log: nothing is kept"
    return Answer(celery.__version__, how, found, alone)


if __name__ == "__main__":
    answer(measure)
