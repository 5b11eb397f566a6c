"""What a replica remembers is bounded in entries and in bytes."""

from hypothesis import given
from hypothesis import strategies as st

from ripieno.store.database.remembered import Remembered


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=600)), max_size=40))
def test_the_oldest_go_first_and_bytes_are_those_of_what_is_there(entries: list[tuple[int, bytes]]) -> None:
    remembered: Remembered[int, bytes] = Remembered(len, most_entries=4, most_bytes=2_500)
    for key, value in entries:
        remembered.put(key, value)
        assert remembered.get(key) == value
        there = {each: kept for each in range(6) if (kept := remembered.get(each)) is not None}
        assert len(remembered) == len(there) <= 4
        assert remembered.bytes == sum(400 + len(kept) for kept in there.values()) <= 2_500
    remembered.clear()
    assert (len(remembered), remembered.bytes) == (0, 0)


def test_what_is_more_than_all_that_may_be_is_not_remembered_and_displaces_nothing() -> None:
    remembered: Remembered[str, bytes] = Remembered(len, most_bytes=1_000)
    remembered.put("a", b"")
    remembered.put("b", bytes(601))
    assert (remembered.get("a"), remembered.get("b"), remembered.bytes) == (b"", None, 400)
