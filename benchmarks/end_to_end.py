"""No-op tasks end to end: submitted, run on two workers, every result in the client's hands.

Usage: python benchmarks/end_to_end.py [TASKS] [ROUNDS]

Starts a cluster of its own (every process separate, fsync on) in a temporary directory and
prints one line a round: tasks a second, and the processor time of each process for one task.
"""

import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from ripieno.client import Client

HERE = Path(__file__).parent


def main(tasks: int, rounds: int) -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as scratch:
        worker = f"{sys.executable} -m ripieno.worker noop:handle"
        command = [sys.executable, "-m", "ripieno", "up", "--data", f"{scratch}/data", "--listen", "127.0.0.1:0"]
        command += ["--slots", "2", "--worker", worker]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE) as cluster:
            assert cluster.stdout is not None
            match = re.search(r"127\.0\.0\.1:\d+", cluster.stdout.readline())
            assert match, "the cluster did not become ready"
            try:
                for _ in range(rounds):
                    one_round(match[0], tasks, cluster.pid)
                latency(match[0], 300)
            finally:
                cluster.send_signal(signal.SIGTERM)


def one_round(address: str, tasks: int, cluster: int) -> None:
    """Submit, run and fetch; print what it took."""
    with Client(address) as client:
        session = client.session(max_retries=1, max_duration=60)
        before = processor_time(cluster)
        began = time.perf_counter()
        own = time.process_time()
        submitted = session.submit_many([b"p" * 100] * tasks)
        accepted = time.perf_counter() - began
        got = sum(len(result.data) for result in session.results(submitted))
        took = time.perf_counter() - began
        own = time.process_time() - own
        assert got == 100 * tasks, got
    spent = {name: (after - before.get(name, 0)) / tasks * 1e6 for name, after in processor_time(cluster).items()}
    spent["client"] = own / tasks * 1e6
    parts = ", ".join(f"{name} {us:.0f}" for name, us in sorted(spent.items()))
    print(
        f"{tasks / took:8,.0f} tasks/s  (submission alone {tasks / accepted:,.0f}/s)  us of processor a task: {parts}"
    )


def latency(address: str, tasks: int) -> None:
    """One task at a time on the idle cluster."""
    with Client(address) as client:
        session = client.session(max_retries=1, max_duration=60)
        times = []
        for _ in range(tasks):
            began = time.perf_counter()
            session.submit(b"p" * 100).result()
            times.append(time.perf_counter() - began)
    times = sorted(times[10:])
    print(f"one at a time: p50 {times[len(times) // 2] * 1e3:.2f} ms, p99 {times[int(len(times) * 0.99)] * 1e3:.2f} ms")


def processor_time(cluster: int) -> dict[str, float]:
    """Seconds of processor time by kind of process."""
    spent: dict[str, float] = {}
    for process in psutil.Process(cluster).children(recursive=True):
        try:
            line = " ".join(process.cmdline())
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        kind = "other"
        for word, name in (
            ("postgres", "postgres"),
            (" control", "control"),
            (" agent", "agent"),
            ("worker", "worker"),
        ):
            if word in line:
                kind = name
                break
        spent[kind] = spent.get(kind, 0.0) + times.user + times.system
    return spent


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
