"""Room: what one holds is held of the whole, and goes back; nobody takes all of it."""

from hypothesis import given
from hypothesis import strategies as st

from ripieno.control.results.room import Room


def test_a_part_is_bounded_by_itself_and_by_the_whole() -> None:
    whole = Room(100)
    one, two = Room(40, within=whole), Room(60, within=whole)
    assert one.take(40) and not one.take(1)
    assert not two.take(31) and two.take(30) and not two.take(1)
    assert (one.free, two.free, whole.free) == (0, 0, 30)
    one.give_back(40)
    assert (two.held, whole.held, two.free) == (30, 30, 20)
    assert not two.take(21) and two.take(20)


def test_what_is_there_in_any_case_is_counted() -> None:
    whole = Room(100)
    part = Room(30, within=whole)
    assert part.take_up_to(20, least=10) == 20
    assert part.take_up_to(20, least=10) == 10
    assert part.take_up_to(20, least=10) == 10
    assert (part.held, whole.held, part.free) == (40, 40, 0)
    part.give_back(40)
    with part.hold(50):
        assert (part.held, whole.held) == (50, 50)
    assert (part.held, whole.held) == (0, 0)


@given(st.lists(st.lists(st.integers(1, 1_000), max_size=50), max_size=30))
def test_whoever_comes_next_finds_room(streams: list[list[int]]) -> None:
    whole = Room(10_000)
    for sizes in streams:
        part = Room(5_000, within=whole)
        for size in sizes:
            part.take(size)
        assert part.held <= 10_000 - whole.held
    assert Room(5_000, within=whole).free >= (10_000 >> len(streams)) // 2 - 1
