"""How much work an agent holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.agent.pace import LONG_S, MAX_LOOKAHEAD, MAX_STOCK, Pace


def paced(run_s: float, mean_bytes: float = 0.0) -> Pace:
    return Pace(run_s, mean_bytes)


def test_before_anything_was_seen() -> None:
    assert Pace().window(ahead=True) == 2
    assert Pace().wanted(4, 8) == 8


@pytest.mark.parametrize(
    ("run_s", "window"),
    [(1e-6, 1 + MAX_LOOKAHEAD), (0.0001, 51), (0.001, 6), (0.01, 2), (0.05, 2), (LONG_S * 1.01, 1), (10, 1)],
)
def test_windows(run_s: float, window: int) -> None:
    assert paced(run_s).window(ahead=True) == window
    assert paced(run_s).window(ahead=False) == 1


def test_long_attempts_are_not_stocked() -> None:
    assert paced(0.2).wanted(4, 4) == 4
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
    assert pace.run_s > LONG_S
    for _ in range(10):
        pace.ran(0.0001, 1)
    assert pace.window(ahead=True) > 5


def test_attempts_that_are_still_running_count() -> None:
    pace = paced(0.001)
    pace.runs(0.3)
    assert pace.window(ahead=True) == 1
    pace.runs(0.1)
    assert pace.run_s == 0.3


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 300), st.integers(0, 10**9)), max_size=20))
def test_bounds(story: list[tuple[float, int, int]]) -> None:
    pace = Pace()
    for busy_s, attempts, size in story:
        pace.ran(busy_s, attempts)
        pace.sized(size, attempts)
        windows = 3 * pace.window(ahead=True)
        assert 3 <= windows <= 3 * (1 + MAX_LOOKAHEAD)
        assert 3 <= pace.wanted(3, windows) <= MAX_STOCK + windows
