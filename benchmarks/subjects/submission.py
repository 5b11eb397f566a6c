"""P4: submission alone: durable in the database when the call returns, nobody runs it yet."""

import tempfile
import time
from pathlib import Path

from benchmarks.clusters import control, postgres
from benchmarks.figures import Figure, at_least, of_rounds
from benchmarks.scale import Scale
from benchmarks.tasks import PAYLOAD
from ripieno.client import Client


def measure(scale: Scale) -> list[Figure]:
    """The rate of submission, no agent being connected."""
    tasks = scale.of(50_000)
    rates = []
    with (
        tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True) as scratch,
        postgres(Path(scratch) / "postgres") as database,
        control(database, Path(scratch) / "objects") as (_, address),
        Client(address) as client,
    ):
        session = client.session(max_retries=1, max_duration=60)
        session.submit_many([PAYLOAD] * scale.of(5_000))
        for _ in range(scale.rounds):
            began = time.perf_counter()
            session.submit_many([PAYLOAD] * tasks)
            rates.append(tasks / (time.perf_counter() - began))
    how = f"{tasks:,} tasks of 100 bytes, 1 client, 1,000 a call, 4 calls in flight, fsync on, no agent"
    return [of_rounds("submission alone", rates, "tasks/s", how, at_least(40_000))]
