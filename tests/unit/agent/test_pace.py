"""How much work an agent holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.agent.scheduling.pace import LONG_S, MAX_LOOKAHEAD, MAX_STOCK, SHORT_AHEAD_S, SHORT_S, Pace


def paced(run_s: float, mean_bytes: float = 0.0) -> Pace:
    return Pace(run_s, mean_bytes)


def test_before_anything_was_seen() -> None:
    """One each: what would lie behind a long attempt is better left to others."""
    assert Pace().window(ahead=True) == Pace().window(ahead=False) == 1
    assert Pace().wanted(4, 4) == 4
    assert Pace().wanted(0, 0) == 0
    seen = Pace()
    seen.ran(0.001, 1)
    assert seen.window(ahead=True) > 1 and seen.wanted(4, 4) > 8


@pytest.mark.parametrize(
    ("run_s", "window"),
    [(1e-6, 1 + MAX_LOOKAHEAD), (0.0001, 51), (0.001, 6), (0.01, 2), (0.05, 2), (LONG_S * 1.01, 1), (10, 1)],
)
def test_windows(run_s: float, window: int) -> None:
    assert paced(run_s).window(ahead=True) == window
    assert paced(run_s).window(ahead=False) == 1


def test_long_attempts_are_not_stocked() -> None:
    assert paced(LONG_S * 1.01).wanted(4, 4) == 4
    assert paced(LONG_S).wanted(4, 4) == 5
    assert paced(0.05).wanted(4, 4) == 5
    assert paced(1e-6).wanted(4, 8) == MAX_STOCK + 8
    assert paced(0.001).wanted(0, 0) == 0


def test_large_data_is_not_stocked() -> None:
    assert paced(1e-5, 200e6).wanted(2, 4) == 2
    assert paced(1e-5, 200e6).window(ahead=True) == 2
    assert paced(1e-5, 64 * 1024).wanted(2, 4) == 256


def test_one_slow_attempt_among_quick_ones() -> None:
    pace = paced(0.0001)
    pace.ran(30.0, 1)
    assert pace.window(ahead=True) == 2 and pace.wanted(4, 8) > 8  # stocked as before, if with less
    for _ in range(10):
        pace.ran(0.0001, 1)
    assert pace.window(ahead=True) > 5


def test_slow_attempts_in_a_row() -> None:
    pace = paced(0.0001)
    for _ in range(4):
        pace.ran(30.0, 1)
    assert pace.window(ahead=True) == 1 and pace.wanted(4, 4) == 4


def test_attempts_that_are_still_running_count() -> None:
    pace = paced(0.001)
    pace.runs(LONG_S)
    assert pace.run_s == 0.001
    pace.runs(LONG_S * 2)
    assert pace.window(ahead=True) == 1
    pace.runs(LONG_S * 1.5)
    assert pace.run_s == LONG_S * 2


@pytest.mark.parametrize(
    ("run_s", "ahead_s", "one_s"),
    [
        (0.0, SHORT_AHEAD_S, SHORT_S),
        (0.001, SHORT_AHEAD_S, SHORT_S),
        (0.005, SHORT_AHEAD_S, 0.015),
        (0.05, 0.15, 0.15),
        (0.2, LONG_S, LONG_S),
        (10.0, LONG_S, LONG_S),
    ],
)
def test_patience(run_s: float, ahead_s: float, one_s: float) -> None:
    assert paced(run_s).patience_s(ahead=True) == pytest.approx(ahead_s)
    assert paced(run_s).patience_s(ahead=False) == pytest.approx(one_s)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 300), st.integers(0, 10**9)), max_size=20))
def test_bounds(story: list[tuple[float, int, int]]) -> None:
    pace = Pace()
    for busy_s, attempts, size in story:
        pace.ran(busy_s, attempts)
        pace.sized(size, attempts)
        windows = 3 * pace.window(ahead=True)
        assert 3 <= windows <= 3 * (1 + MAX_LOOKAHEAD)
        assert 3 <= pace.wanted(3, windows) <= MAX_STOCK + windows


def learned(*run_s: float) -> Pace:
    pace = Pace()
    for one in run_s:
        pace.ran(one, 1)
    return pace


def test_regular_attempts_are_due_about_their_mean_run_time() -> None:
    pace = learned(*[1.0] * 20)
    assert [pace.due(running_s) for running_s in (0.0, 0.9, 0.96, 1.04, 1.1)] == [False, False, True, True, False]
    assert pace.wanted(4, 4, due=3) == 7


def test_what_is_short_or_uneven_is_never_due() -> None:
    for pace in (learned(*[0.01] * 20), learned(*[0.001, 0.5] * 20), learned(1.0), Pace()):
        assert not any(pace.due(running_s / 1000) for running_s in range(2_000))
