"""Keys that need no look: those that were created here, as long as nothing is heard of them."""

import pytest

from ripieno.control.waiting.fresh_keys import FreshKeys
from ripieno.store.cluster.signals import News
from ripieno.store.sessions.changes import Changes


def fresh_with(*keys: str, session_no: int = 1, most: int = 100) -> FreshKeys:
    fresh = FreshKeys(most)
    with fresh.listening() as heard:
        fresh.created({session_no: list(keys)}, heard)
    return fresh


def test_what_was_created_needs_no_look() -> None:
    fresh = fresh_with("a", "b")
    assert fresh.others(1, ["a", "x", "b"]) == ["x"]
    assert fresh.others(2, ["a"]) == ["a"]


@pytest.mark.parametrize(
    "what",
    [
        Changes(completed={1: {"a": b""}}),
        Changes(aborted={1: ["a"]}),
        Changes(unnamed={1}),
        News(results={1: ["a"]}),
        News(unnamed=frozenset({1})),
        News(gone=frozenset({1})),
        News(everything=True),
    ],
    ids=lambda what: repr(what)[:40],
)
def test_what_was_heard_of_needs_one(what: Changes | News) -> None:
    fresh = fresh_with("a")
    fresh.changed_elsewhere(what) if isinstance(what, News) else fresh.changed_here(what)
    assert fresh.others(1, ["a"]) == ["a"]
    early = FreshKeys()
    with early.listening() as heard:  # and where it is heard before the creation is known
        early.changed_elsewhere(what) if isinstance(what, News) else early.changed_here(what)
        early.created({1: ["a"], 2: ["a"]}, heard)
    assert early.others(1, ["a"]) == ["a"]
    assert early.others(2, ["a"]) == (["a"] if isinstance(what, News) and what.everything else [])


def test_another_incarnation_is_another_world() -> None:
    fresh = FreshKeys()
    with fresh.listening() as heard:
        fresh.created({1: ["a"]}, heard)
        fresh.clear()
        fresh.created({1: ["b"]}, heard)
    assert fresh.others(1, ["a", "b"]) == ["a", "b"]


def test_there_are_not_ever_more_of_them() -> None:
    fresh = fresh_with("a", "b", most=3)
    with fresh.listening() as heard:
        fresh.created({2: ["c", "d"]}, heard)
        fresh.created({2: ["c"]}, heard)
    assert fresh.others(1, ["a", "b"]) == ["a", "b"]
    assert fresh.others(2, ["c", "d"]) == []
    fresh.changed_here(Changes(completed={2: {"c": b"", "d": b""}}))
    with fresh.listening() as heard:
        fresh.created({3: ["e", "f", "g"]}, heard)
    assert fresh.others(3, ["e", "f", "g"]) == []
