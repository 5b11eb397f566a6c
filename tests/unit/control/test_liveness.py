"""Who is lost: by the observer's own time, and only if it was awake."""

import pytest

from ripieno.control.liveness import Observer

LEASE_S = 10.0


def looks(observer: Observer, start: float, stop: float, renewals: dict[int, int]) -> dict[int, float]:
    """Look every quarter of a lease; what the last look said."""
    said: dict[int, float] = {}
    now = start
    while now <= stop:
        said = observer.look(renewals, now)
        now += LEASE_S / 4
    return said


def test_who_is_not_renewed_for_a_lease_is_lost() -> None:
    observer = Observer(LEASE_S)
    assert looks(observer, 0, 7.5, {1: 5, 2: 5}) == {}
    assert observer.look({1: 6, 2: 5}, 10) == {2: 10}
    assert observer.look({1: 6, 2: 5}, 12.5) == {2: 12.5}
    assert observer.look({1: 6, 2: 6}, 15) == {}


def test_nobody_is_lost_at_the_start() -> None:
    assert Observer(LEASE_S).look({1: 5}, 1e6) == {}


@pytest.mark.parametrize("slept_s", [6, 15, 3600])
def test_whoever_slept_gives_everybody_a_whole_lease(slept_s: float) -> None:
    observer = Observer(LEASE_S)
    looks(observer, 0, 7.5, {1: 5})
    woke = 7.5 + slept_s
    assert looks(observer, woke, woke + 7.5, {1: 5}) == {}
    assert observer.look({1: 5}, woke + 10) == {1: 10}


def test_who_holds_nothing_for_a_while_begins_anew() -> None:
    observer = Observer(LEASE_S)
    looks(observer, 0, 7.5, {1: 5})
    observer.look({}, 10)
    assert observer.look({1: 5}, 12.5) == {}
