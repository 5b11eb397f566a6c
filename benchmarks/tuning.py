"""What each knob does to the rate of no-op tasks: ``python -m benchmarks.tuning [NAME...]``.

One knob is turned at a time, on a cluster of its own, and what is printed is its rate over that
of the cluster as it is, taken just before and just after: the machine's moods cancel out.
``docs/performance.md`` quotes the figures.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.clusters import agent, control, postgres, python_worker
from benchmarks.subjects.no_op import run
from benchmarks.tasks import PAYLOAD
from ripieno.client import Client, Session

TASKS = 20_000
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that differs from the default.

    Attributes:
        control, agent: A constant and its value, as ``module:NAME=value``.
        postgres: Settings of the server.
        payload: Bytes of each task's payload.
        tasks: How many; fewer where each is dear.
    """

    name: str
    control: str = ""
    agent: str = ""
    postgres: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    slots: int = 2
    payload: int = len(PAYLOAD)
    tasks: int = TASKS


_DEFAULT = Knob("as it is")

KNOBS = [
    *(
        Knob(
            f"tasks in one submission transaction: {value} (2,000)",
            f"ripieno.control.submitting.submissions:_LARGEST_FLUSH={value}",
        )
        for value in (200, 8_000)
    ),
    *(
        Knob(
            f"submission transactions at once: {value} (2)", f"ripieno.control.submitting.submissions:_FLUSHES={value}"
        )
        for value in (1, 4)
    ),
    *(
        Knob(f"tasks in one claim: {value} (256)", f"ripieno.control.agents.dispatcher:_LARGEST_CLAIM={value}")
        for value in (64, 512, 2_048)
    ),
    *(
        Knob(f"outcomes in one commit: {value} (512)", f"ripieno.control.agents.reports:_LARGEST_COMMIT={value}")
        for value in (64, 2_048)
    ),
    *(Knob(f"commits at once: {value} (2)", f"ripieno.control.agents.reports:_COMMITS={value}") for value in (1, 4)),
    *(
        Knob(
            f"work sent ahead to a worker: {value * 1000:g} ms (5)",
            agent=f"ripieno.agent.scheduling.pace:LOOKAHEAD_S={value}",
        )
        for value in (0.0, 0.001, 0.02)
    ),
    *(
        Knob(
            f"work waiting in the agent: {value * 1000:g} ms (10)",
            agent=f"ripieno.agent.scheduling.pace:STOCK_S={value}",
        )
        for value in (0.001, 0.05)
    ),
    *(Knob(f"slots: {value} (2)", slots=value) for value in (1, 4, 8)),
    Knob("replicas: 2 (1)", replicas=2),
    Knob("PostgreSQL: synchronous_commit off", postgres={"synchronous_commit": "off"}),
    Knob("PostgreSQL: fsync off", postgres={"fsync": "off"}),
    Knob("PostgreSQL: full_page_writes off", postgres={"full_page_writes": "off"}),
    Knob("PostgreSQL: shared_buffers 32MB (256MB)", postgres={"shared_buffers": "32MB"}),
    Knob("PostgreSQL: max_wal_size 256MB (2GB)", postgres={"max_wal_size": "256MB"}),
    Knob("PostgreSQL: autovacuum off", postgres={"autovacuum": "off"}),
    Knob("payload: 1 KiB (100 bytes)", payload=1024),
    Knob("payload: 10 KiB", payload=10 * 1024, tasks=TASKS // 4),
    Knob("payload: 64 KiB, inline", payload=64 * 1024, tasks=TASKS // 10),
    Knob("payload: 65 KiB, an object each", payload=65 * 1024, tasks=TASKS // 40),
]


def main(names: list[str]) -> None:
    """Turn the knobs whose name contains one of ``names`` (none: all)."""
    knobs = [knob for knob in KNOBS if not names or any(name in knob.name for name in names)]
    before = _rate(_DEFAULT)
    for knob in knobs:
        rate = _rate(knob)
        after = _rate(_DEFAULT)
        default = (before + after) / 2
        print(f"{knob.name:58} {rate:9,.0f} tasks/s {rate / default:6.2f} x {default:,.0f}", flush=True)
        before = after


def _rate(knob: Knob) -> float:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-b-", ignore_cleanup_errors=True)))
        database = stack.enter_context(postgres(scratch / "postgres", knob.postgres))
        replicas = [
            stack.enter_context(control(database, scratch / "objects", changing=knob.control))[1]
            for _ in range(knob.replicas)
        ]
        stack.enter_context(agent(replicas[-1], python_worker("no_op"), slots=knob.slots, changing=knob.agent))
        client = stack.enter_context(Client(replicas[0]))
        session = client.session(max_retries=1, max_duration=60)
        return median(list(_rounds(session, knob))[1:])  # the first warms up


def _rounds(session: Session, knob: Knob) -> Iterator[float]:
    payload = bytes(knob.payload)
    for number in range(ROUNDS + 1):
        yield run(session, knob.tasks if number else knob.tasks // 4, payload)


if __name__ == "__main__":
    main(sys.argv[1:])
