"""P8: the rate with much waiting and much done, the time of a claim, and the control plane's memory."""

import asyncio
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from benchmarks.clusters import agent, control, postgres, python_worker
from benchmarks.figures import Figure, at_most, percentile
from benchmarks.filling import Filling, fill
from benchmarks.footprint import resident_mib
from benchmarks.scale import Scale
from benchmarks.tasks import PAYLOAD
from ripieno.client import Client, Session, TaskStatus

#: Tasks that wait, and finished ones, in each stage. The first is what the others are compared with.
_STAGES = ((10_000, 0), (100_000, 0), (1_000_000, 0), (10_000, 5_000_000))

#: PostgreSQL says how long each statement took; texts of parameters would be most of the log.
_LOGGED = {"log_min_duration_statement": "0", "log_parameter_max_length": "0"}
#: A statement's later lines begin with a tab there.
_CLAIM = re.compile(r"duration: ([0-9.]+) ms  execute .*\n(?:\t.*\n)*?\twith picked as materialized")

_BACKLOG = "backlog"
_ABOVE_BACKLOG = 50


class _Stage(NamedTuple):
    rate: float
    claim_p99_ms: float
    control_mib: float
    how: str


def measure(scale: Scale) -> list[Figure]:
    """One rate a stage, each on a database of its own; the worst of the rest."""
    tasks = scale.of(50_000)
    stages = {
        f"{waiting:,} waiting, {finished:,} finished": _stage(tasks, waiting, finished)
        for waiting, finished in ((scale.of(w), scale.of(f)) if f else (scale.of(w), 0) for w, f in _STAGES)
    }
    rates = [stage.rate for stage in stages.values()]
    apart = (1 - min(rates) / max(rates)) * 100
    claim_p99_ms = max(stage.claim_p99_ms for stage in stages.values())
    control_mib = max(stage.control_mib for stage in stages.values())
    return [
        *(Figure(f"no-op, {name}", stage.rate, "tasks/s", stage.how) for name, stage in stages.items()),
        Figure("backlog, slowest below fastest", apart, "%", "of the rates above", at_most(10)),
        Figure(
            "backlog, claim p99", claim_p99_ms, "ms", "execution in PostgreSQL, by its log; worst stage", at_most(20)
        ),
        Figure("backlog, control plane", control_mib, "MiB", "resident at the end; worst stage", at_most(300)),
    ]


def _stage(tasks: int, waiting: int, finished: int) -> _Stage:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True)))
        database = stack.enter_context(postgres(scratch / "postgres", _LOGGED))
        done = [Filling("done", finished, finished=True)] if finished else []
        asyncio.run(fill(database, *done, Filling(_BACKLOG, waiting, finished=False)))
        pid, address = stack.enter_context(control(database, scratch / "objects"))
        client = stack.enter_context(Client(address))
        session = client.session(max_retries=1, max_duration=60, priority=_ABOVE_BACKLOG)
        before = session.submit_many([PAYLOAD] * (tasks // 2))  # the agent always finds one that is more urgent
        stack.enter_context(agent(address, python_worker("no_op")))
        rate = _rate(session, session.results(before, timeout=120), tasks - tasks // 2, len(before))
        left = client.open_session(_BACKLOG).counts().get(TaskStatus.SUBMITTED, 0)
        mib = resident_mib([pid], "control")
        claims = [float(match[1]) for match in _CLAIM.finditer((scratch / "postgres.log").read_text(errors="replace"))]
    how = (
        f"{tasks:,} tasks, half of them submitted before, half meanwhile, more urgent than the backlog "
        f"({left:,} still waited at the end), 2 workers, 1 client, fsync on, every statement logged"
    )
    return _Stage(rate, percentile(claims, 0.99), mib, how)


def _rate(session: Session, earlier: Iterator[object], more: int, count: int) -> float:
    """From the first result to the last."""
    next(earlier)
    began = time.perf_counter()
    later = session.results(session.submit_many([PAYLOAD] * more), timeout=120)
    got = sum(1 for _ in chain(earlier, later))
    took = time.perf_counter() - began
    assert got == count + more - 1, got
    return got / took
