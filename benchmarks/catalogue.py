"""The subjects: what is measured, in which order, and for how long at most."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject.

    Attributes:
        module: In ``benchmarks.subjects``; has ``measure(scale) -> list[Figure]``.
        title: A line for the table.
        limit_s: After so long it is ended (BENCH-1), on a machine that is much slower than it should be.
    """

    module: str
    title: str
    limit_s: float


SUBJECTS: dict[str, Subject] = {
    "P1": Subject("no_op", "no-op tasks end to end through the SDKs", 180),
    "P2": Subject("bare", "the same with bare stubs on both ends", 240),
    "P3": Subject("latency", "one task at a time", 120),
    "P4": Subject("submission", "submission alone", 120),
    "P5": Subject("results", "results alone", 180),
    "P6": Subject("utilisation", "slots kept busy by equal tasks", 240),
    "P7": Subject("uneven", "slots kept busy by uneven tasks", 180),
    "P8": Subject("backlog", "the rate with much waiting and much done", 1_500),
    "P9": Subject("graphs", "dependencies", 240),
    "P10": Subject("data", "large results and a shared dependency", 480),
    "P11": Subject("agents", "many agents", 360),
    "P12": Subject("inquiries", "questions about a session of a million", 300),
    "P13": Subject("start", "from the command to ready", 120),
    "P14": Subject("idle", "the cost of waiting", 120),
}
