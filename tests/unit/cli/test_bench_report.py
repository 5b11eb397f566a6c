"""What `ripieno bench` makes of its measurements."""

import pickle

import pytest

from ripieno.cli.bench import bench_task
from ripieno.cli.bench.bench_load import Load, Measured
from ripieno.cli.bench.bench_report import percentiles_ms, rate_over_time, rows, summary, utilisation
from ripieno.cli.bench.bench_task import Ran


def load(task_s: float = 0.0) -> Load:
    return Load(
        tasks=4, singles=0, payload=None, task_s=task_s, payload_bytes=10, result_bytes=100, partition=None, limit_s=60
    )


def test_percentiles_are_values_that_were_measured() -> None:
    expected = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    assert percentiles_ms([number / 1e3 for number in range(1, 101)]) == pytest.approx(expected)
    assert percentiles_ms([0.002]) == {"p50": 2, "p90": 2, "p99": 2, "max": 2}
    assert percentiles_ms([]) is None


def test_utilisation_counts_idle_gaps_of_every_worker() -> None:
    ran = [Ran(0, 10, "a"), Ran(10, 20, "a"), Ran(0, 10, "b")]
    assert utilisation(ran) == {"percent": 75, "workers": 2}
    assert utilisation([]) is None


def test_the_rate_over_time_adds_up_to_all_results() -> None:
    arrivals = [0.05, 0.15, 0.15, 0.95, 1.0]
    points = rate_over_time(arrivals)
    assert len(points) == 10
    assert points[-1]["at_s"] == pytest.approx(1.0)
    assert sum(point["rate"] * 0.1 for point in points) == pytest.approx(len(arrivals))
    assert rate_over_time([]) == []


def test_a_function_tells_when_it_ran_and_is_read_without_unpickling() -> None:
    function, arguments, named = pickle.loads(load().encoded())
    result = function(*arguments, **named)
    assert len(result) == 100
    ran = bench_task.read(pickle.dumps(result))
    assert ran is not None
    assert 0 <= ran.ended_ns - ran.began_ns < 1e9
    assert bench_task.read(b"of another worker") is None


def test_the_summary_leaves_out_what_was_not_measured() -> None:
    measured = Measured(submitted_s=0.5, arrivals_s=[1.0, 1.5, 2.0, 2.0], ran=[Ran(0, 10, "a")], result_bytes=400)
    found = summary(load(), measured)
    assert (found["tasks_per_second"], found["submitted_per_second"], found["result_bytes_per_second"]) == (2, 8, 200)
    assert (found["single_task_ms"], found["utilisation"]) == (None, None)
    assert set(rows(found)) == {"tasks", "rate", "results"}
    assert summary(load(task_s=0.1), measured)["utilisation"] == {"percent": 100, "workers": 1}
