"""Figures, ratios and the idle time of slots: what the benchmarks compute."""

from benchmarks.figures import Figure, at_least, at_most, of_rounds, percentile
from benchmarks.report import ratios
from benchmarks.subjects import latency, no_op
from benchmarks.subjects.uneven import longest_idle_s
from benchmarks.tasks import Ran

MS = 1_000_000


def test_percentiles_by_nearest_rank() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_a_figure_survives_its_file() -> None:
    figure = of_rounds("rate", [3.0, 1.0, 2.0], "tasks/s", "how", at_least(2))
    assert (figure.value, figure.lowest, figure.highest, figure.verdict) == (2, 1, 3, "met")
    assert Figure.from_json(figure.to_json()) == figure
    assert Figure("time", 3, "ms", "how", at_most(2)).verdict == "missed"


def test_ratios_are_larger_than_one_where_ours_is_better() -> None:
    figures = [
        Figure(no_op.NAME, 10_000, "tasks/s", ""),
        Figure(latency.P50, 2, "ms", ""),
        Figure(no_op.NAME, 2_000, "tasks/s", "", system="ray 1"),
        Figure(latency.P50, 1, "ms", "", system="ray 1"),
    ]
    rate, time = ratios(figures)
    assert (rate.times, rate.target) == (5, at_least(7))
    assert (time.times, time.target) == (0.5, None)


def test_a_slot_is_idle_while_something_has_not_begun() -> None:
    busy = [Ran(0, 10 * MS, 1), Ran(10 * MS, 20 * MS, 1), Ran(0, 30 * MS, 2)]
    assert longest_idle_s(busy, 2) == 0
    behind_a_long_one = [Ran(0, 10 * MS, 1), Ran(0, 500 * MS, 2), Ran(500 * MS, 501 * MS, 2)]
    assert longest_idle_s(behind_a_long_one, 2) == 0.490
    assert longest_idle_s(busy, 3) == 0.010  # the third was never used
