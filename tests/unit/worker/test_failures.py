from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.worker.failures import FAILURE_LIMIT_CHARACTERS, describe, shorten
from ripieno.worker.process_lane import DETAIL_LIMIT_BYTES, fit_detail


@given(st.text(), st.integers(1, 60))
def test_a_shortened_text_keeps_its_end(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text or len(text) > limit


def test_the_last_line_of_a_long_traceback_survives() -> None:
    try:
        raise ValueError("first " + "x" * 20_000 + " last")
    except ValueError as error:
        told = describe(error)
    assert len(told) <= FAILURE_LIMIT_CHARACTERS
    assert told.startswith("Traceback (most recent call last):")
    assert "test_failures.py" in told
    assert told.endswith(" last")


@pytest.mark.parametrize("text", ["a" * 50_000, "é" * 9_000, "\n%" * 5_000, "短い", "a" * 6_000])
def test_a_status_detail_fits_its_trailers(text: str) -> None:
    detail = fit_detail(text)
    assert len(quote(detail, safe=" ")) <= DETAIL_LIMIT_BYTES
    assert detail == text or len(quote(detail, safe=" ")) > DETAIL_LIMIT_BYTES * 0.8
