"""Who waits for what: each delivered once, nobody forgotten, and every step costs what it names."""

from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from ripieno.control.waiting.waiting import Waiter, Waiting

Keys = Waiting[str, tuple[str, int]]


class Someone:
    """A waiter that remembers what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int]] = []
        self.waiter: Waiter[str, tuple[str, int]] = Waiter(self._take)

    def _take(self, found: Sequence[tuple[str, int]]) -> None:
        self.got += found


class CountedKey(str):
    """A key that counts how often anything looks for it."""

    __slots__ = ()
    looked_for = 0

    def __hash__(self) -> int:
        CountedKey.looked_for += 1
        return super().__hash__()

    __eq__ = str.__eq__


def found(*keys: str) -> Iterable[tuple[str, tuple[str, int]]]:
    return [(key, (key, 1)) for key in keys]


def test_each_key_is_delivered_once_to_each_who_asked() -> None:
    waiting, one, two = Keys(), Someone(), Someone()
    assert waiting.add(one.waiter, ["a", "b", "a"]) == ["a", "b"]
    assert waiting.add(one.waiter, ["b", "c"]) == ["c"]
    assert waiting.add(two.waiter, ["b"]) == ["b"]
    waiting.deliver(found("b", "x"))
    waiting.deliver(found("b"))
    assert one.got == two.got == [("b", 1)]
    assert one.waiter.asked == {"a", "c"} and two.waiter.asked == set()
    assert sorted(waiting) == ["a", "c"]


def test_what_is_found_together_comes_together() -> None:
    waiting, got = Keys(), list[Sequence[tuple[str, int]]]()
    waiter: Waiter[str, tuple[str, int]] = Waiter(got.append)
    waiting.add(waiter, "abc")
    waiting.deliver(found("a", "c"))
    assert got == [[("a", 1), ("c", 1)]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "deliver"]),
            st.integers(0, 3),
            st.sets(st.sampled_from("abcdef")),
        )
    )
)
def test_it_is_a_set_of_pairs(steps: list[tuple[str, int, set[str]]]) -> None:
    waiting, people = Keys(), [Someone() for _ in range(4)]
    pairs, told = set[tuple[int, str]](), {number: list[str]() for number in range(4)}
    for step, number, keys in steps:
        if step == "add":
            waiting.add(people[number].waiter, sorted(keys))
            pairs |= {(number, key) for key in keys}
        elif step == "remove":
            waiting.remove(people[number].waiter)
            pairs = {pair for pair in pairs if pair[0] != number}
        else:
            waiting.deliver(found(*sorted(keys)))
            for each, key in sorted(pairs, key=lambda pair: pair[1]):
                if key in keys:
                    told[each].append(key)
            pairs = {pair for pair in pairs if pair[1] not in keys}
        assert set(waiting) == {key for _, key in pairs} and len(waiting) == len({key for _, key in pairs})
        for each, person in enumerate(people):
            assert person.waiter.asked == {key for number, key in pairs if number == each}
            assert [key for key, _ in person.got] == told[each]


def test_one_that_leaves_costs_what_it_waited_for() -> None:
    waiting, many = Keys(), [Someone() for _ in range(1_000)]
    for number, person in enumerate(many):
        waiting.add(person.waiter, [CountedKey("shared"), *(CountedKey(f"{number}-{place}") for place in range(20))])
    CountedKey.looked_for = 0
    waiting.remove(many[500].waiter)
    assert CountedKey.looked_for <= 100
    CountedKey.looked_for = 0
    waiting.deliver(found(*(CountedKey(f"7-{place}") for place in range(20))))
    assert CountedKey.looked_for <= 200
    assert len(many[7].got) == 20
