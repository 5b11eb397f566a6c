"""P13: from the command to the line that says ready."""

import tempfile
import time
from pathlib import Path

from benchmarks.clusters import python_worker, up
from benchmarks.figures import Figure, at_most, of_rounds
from benchmarks.scale import Scale


def measure(scale: Scale) -> list[Figure]:
    """The first start makes the database; later ones find it."""
    with tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True) as scratch:
        first = _start_s(Path(scratch))
        again = [_start_s(Path(scratch)) for _ in range(scale.of(5, 2))]
    how = "ripieno up with 2 workers and the embedded PostgreSQL, from the start of the process to its ready line"
    return [
        Figure("start, first time", first, "s", how, at_most(5)),
        of_rounds("start, again", again, "s", f"{how}, {len(again)} times", at_most(2)),
    ]


def _start_s(data: Path) -> float:
    began = time.perf_counter()
    with up(python_worker("no_op"), data=data):
        return time.perf_counter() - began
