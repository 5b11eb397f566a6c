"""Room: what one holds is held of the whole, and goes back."""

from ripieno.control.room import Room


def test_a_part_is_bounded_by_itself_and_by_the_whole() -> None:
    whole = Room(100)
    one, two = Room(60, within=whole), Room(60, within=whole)
    assert one.take(60) and not one.take(1)
    assert not two.take(41) and two.take(40) and not two.take(1)
    assert (one.free, two.free, whole.free) == (0, 0, 0)
    one.give_back(60)
    assert (two.held, whole.held, two.free) == (40, 40, 20)
    assert not two.take(21) and two.take(20)


def test_what_is_there_in_any_case_is_counted() -> None:
    whole = Room(100)
    part = Room(50, within=whole)
    assert part.take_up_to(30, least=10) == 30
    assert part.take_up_to(30, least=10) == 20
    assert part.take_up_to(30, least=10) == 10
    assert (part.held, whole.held, part.free) == (60, 60, 0)
    part.give_back(60)
    assert (part.held, whole.held) == (0, 0)
