"""P11: many agents on two replicas: does the rate hold from 2 to 500?"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.bare.agents import CREDIT, SLOTS
from benchmarks.clusters import ROOT, control, postgres
from benchmarks.figures import Figure, at_least, of_rounds
from benchmarks.scale import Scale
from benchmarks.subjects.no_op import run
from ripieno.client import Client

REPLICAS = 2
COUNTS = (2, 50, 500)
STOP_WITHIN_S = 20.0


def measure(scale: Scale) -> list[Figure]:
    """The rate by number of agents, and how much of it is left with the most."""
    tasks = scale.of(30_000)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True)))
        database = stack.enter_context(postgres(scratch / "postgres"))
        replicas = [stack.enter_context(control(database, scratch / "objects"))[1] for _ in range(REPLICAS)]
        client = stack.enter_context(Client(replicas[0]))
        figures = [_with_agents(count, replicas, client, tasks, scale.rounds) for count in COUNTS]
    left = figures[-1].value / figures[0].value * 100
    how = f"the rate with {COUNTS[-1]} agents over that with {COUNTS[0]}"
    return [*figures, Figure("rate left with 500 agents", left, "%", how, at_least(95))]


def _with_agents(count: int, replicas: list[str], client: Client, tasks: int, rounds: int) -> Figure:
    with _simulated(count, replicas):
        session = client.session(max_retries=1, max_duration=60)
        run(session, tasks // 10)
        rates = [run(session, tasks) for _ in range(rounds)]
    how = (
        f"{tasks:,} no-op tasks, {count} simulated agents of {SLOTS} slots and a credit of {CREDIT}, instant workers, "
        f"{REPLICAS} replicas, 1 client, fsync on"
    )
    return of_rounds(f"no-op with {count} agents", rates, "tasks/s", how)


@contextmanager
def _simulated(count: int, replicas: list[str]) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.bare.agents", str(count), *replicas]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if "ready" not in process.stdout.readline():
                raise RuntimeError(f"the simulated agents ended with {process.wait()} before they were connected")
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
