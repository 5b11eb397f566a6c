"""Text that others made: storable and bounded, whatever it was."""

from hypothesis import given
from hypothesis import strategies as st

from ripieno.domain.texts import is_encodable, reason, storable

any_text = st.text(st.characters(exclude_categories=()))


@given(any_text)
def test_what_is_storable_is_utf8_without_nul(text: str) -> None:
    told = storable(text)
    assert is_encodable(told) and "\0" not in told
    if is_encodable(text) and "\0" not in text:
        assert told == text


@given(any_text, st.integers(1, 80))
def test_a_reason_fits_and_is_whole_where_it_can_be(text: str, limit_bytes: int) -> None:
    told = reason(text, limit_bytes)
    assert len(told.encode()) <= limit_bytes
    assert told == storable(text) or len(storable(text).encode()) > limit_bytes


def test_most_of_what_stays_of_a_long_reason_is_its_end() -> None:
    told = reason("begin " + "é" * 1_000_000 + " end", 1000)
    assert told.startswith("begin é") and told.endswith("é end") and "[...]" in told


def test_a_lone_surrogate_is_readable() -> None:
    assert storable("caf\udce9") == r"caf\udce9"
