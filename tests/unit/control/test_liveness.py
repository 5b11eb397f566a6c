"""Who is lost: by the observer's own time, and only if it was awake."""

import pytest

from ripieno.control.agents.liveness import Observer

LEASE_S = 10.0


def looks(observer: Observer, start: float, stop: float, renewals: dict[int, int]) -> dict[int, float]:
    """Look every quarter of a lease; what the last look said."""
    said: dict[int, float] = {}
    now = start
    while now <= stop:
        said = observer.look(renewals, now)
        now += LEASE_S / 4
    return said


def test_for_how_long_nobody_was_renewed() -> None:
    observer = Observer(LEASE_S)
    assert looks(observer, 0, 7.5, {1: 5, 2: 5}) == {1: 7.5, 2: 7.5}
    assert observer.look({1: 6, 2: 5}, 10) == {1: 0, 2: 10}
    assert observer.look({1: 6, 2: 5}, 12.5) == {1: 2.5, 2: 12.5}
    assert observer.look({1: 6, 2: 6}, 15) == {1: 5, 2: 0}


def test_nobody_is_lost_at_the_start() -> None:
    assert Observer(LEASE_S).look({1: 5}, 1e6) == {1: 0}


@pytest.mark.parametrize("slept_s", [6, 15, 3600])
def test_whoever_slept_gives_everybody_a_whole_lease(slept_s: float) -> None:
    observer = Observer(LEASE_S)
    looks(observer, 0, 7.5, {1: 5})
    woke = 7.5 + slept_s
    assert observer.look({1: 5}, woke) == {1: 0}
    assert looks(observer, woke + 2.5, woke + 10, {1: 5}) == {1: 10}


def test_whoever_was_told_to_forget_gives_everybody_a_whole_lease() -> None:
    observer = Observer(LEASE_S)
    looks(observer, 0, 7.5, {1: 5})
    observer.forget()
    assert observer.look({1: 5}, 10) == {1: 0}
    assert observer.look({1: 5}, 12.5) == {1: 2.5}


def test_who_holds_nothing_for_a_while_begins_anew() -> None:
    observer = Observer(LEASE_S)
    looks(observer, 0, 7.5, {1: 5})
    observer.look({}, 10)
    assert observer.look({1: 5}, 12.5) == {1: 0}
