"""Figures computed from the measurements of ``ripieno bench``, without I/O."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ripieno.cli.bench.bench_load import Load, Measured
from ripieno.cli.bench.bench_task import Ran

#: Most points of the rate over time, and the shortest time of each: results come in batches.
_POINTS = 50
_SHORTEST_POINT_S = 0.1
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def summary(load: Load, measured: Measured) -> dict[str, Any]:
    """Return all figures as one JSON object: times in the unit of the key's name, rates a second.

    ``seconds`` and ``at_s`` are in seconds, ``single_task_ms`` in milliseconds. A figure that was
    not measured is None.
    """
    took_s = measured.arrivals_s[-1] if measured.arrivals_s else 0.0
    return {
        "tasks": load.tasks,
        "failed": measured.failed,
        "seconds": took_s,
        "tasks_per_second": len(measured.arrivals_s) / took_s if took_s else None,
        "submitted_per_second": load.tasks / measured.submitted_s if measured.submitted_s else None,
        "result_bytes_per_second": measured.result_bytes / took_s if took_s else None,
        "single_task_ms": percentiles_ms(measured.singles_s),
        "utilisation": utilisation(measured.ran) if load.task_s else None,
        "rate_over_time": rate_over_time(measured.arrivals_s),
    }


def percentiles_ms(times_s: Sequence[float]) -> dict[str, float] | None:
    """Return percentiles of times by nearest rank, in milliseconds; None if there are no times."""
    if not times_s:
        return None
    ordered = sorted(times_s)
    return {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1e3 for name, share in _SHARES.items()}


def utilisation(ran: Sequence[Ran]) -> dict[str, float] | None:
    """Return the tasks' total time over workers times makespan, in percent; None if no task said when it ran.

    The workers' clocks are used: on several machines they must agree to well below the makespan.
    """
    makespan_ns = max((one.ended_ns for one in ran), default=0) - min((one.began_ns for one in ran), default=0)
    if makespan_ns <= 0:
        return None
    workers = len({one.worker for one in ran})
    busy_ns = sum(one.ended_ns - one.began_ns for one in ran)
    return {"percent": busy_ns / (workers * makespan_ns) * 100, "workers": workers}


def rate_over_time(arrivals_s: Sequence[float]) -> list[dict[str, float]]:
    """Return the results a second in equal pieces of the whole time; ``at_s`` is the end of a piece."""
    if not arrivals_s or arrivals_s[-1] <= 0:
        return []
    counts = [0] * max(1, min(_POINTS, int(arrivals_s[-1] / _SHORTEST_POINT_S)))
    width = arrivals_s[-1] / len(counts)
    for at in arrivals_s:
        counts[min(int(at / width), len(counts) - 1)] += 1
    return [{"at_s": (index + 1) * width, "rate": count / width} for index, count in enumerate(counts)]


def rows(found: Mapping[str, Any]) -> dict[str, str]:
    """Return a summary for people: the name of each figure -> its value with unit."""
    lines = {"tasks": f"{found['tasks']:,} in {found['seconds']:.2f} s, {found['failed']:,} failed"}
    if found["tasks_per_second"]:
        lines["rate"] = (
            f"{found['tasks_per_second']:,.0f} tasks/s, submission alone {found['submitted_per_second']:,.0f}/s"
        )
        lines["results"] = f"{found['result_bytes_per_second'] / 1e6:,.2f} MB/s"
    if single := found["single_task_ms"]:
        lines["one alone"] = ", ".join(f"{name} {value:.2f} ms" for name, value in single.items())
    if busy := found["utilisation"]:
        lines["utilisation"] = f"{busy['percent']:.1f} % of {busy['workers']} workers"
    return lines
