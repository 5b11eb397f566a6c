import os
from urllib.parse import quote

import pytest

from ripieno.domain.outcomes import FAILURE_VALUE_LIMIT_BYTES
from ripieno.domain.texts import REASON_LIMIT_BYTES
from ripieno.worker.running.failures import describe, detail_of, value_of
from ripieno.worker.serving.process_lane import DETAIL_LIMIT_BYTES, fit_detail
from ripieno.worker.terms.errors import TaskError

NOT_UTF8 = os.fsdecode(b"caf\xe9.csv")


class TextlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class EndingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def deep() -> None:
    deep()


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001
        return raised


def with_notes(error: Exception, *notes: str) -> Exception:
    for note in notes:
        error.add_note(note)
    return error


def test_the_last_line_of_a_long_traceback_survives() -> None:
    told = describe(caught(ValueError("first " + "x" * 20_000 + " last")))
    assert len(told.encode()) <= REASON_LIMIT_BYTES
    assert told.startswith("Traceback (most recent call last):")
    assert "test_failures.py" in told
    assert told.endswith(" last")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(f"cannot read {NOT_UTF8}"), "caf\\udce9.csv"),
        (TaskError("a\0b"), "a\\x00b"),
        (TextlessError(), "TextlessError"),
        (EndingError(), "EndingError"),
        (SystemExit(NOT_UTF8), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ExceptionGroup("many", [ValueError(NOT_UTF8)] * 500), "caf\\udce9"),
        (ValueError("é" * 30_000_000), "ValueError"),
        (with_notes(ValueError("noted"), NOT_UTF8), "caf\\udce9"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_was_raised_is_told_in_text_that_can_be_stored(error: BaseException, told: str) -> None:
    for text in (describe(caught(error)), detail_of(error)):
        assert len(text.encode()) <= REASON_LIMIT_BYTES
        assert "\0" not in text
    assert told in describe(caught(error))


def test_a_recursion_without_end_is_told() -> None:
    with pytest.raises(RecursionError) as raised:
        deep()
    assert "RecursionError" in describe(raised.value)


@pytest.mark.parametrize("text", ["a" * 50_000, "é" * 9_000, "\n%" * 5_000, "短い", "a" * 6_000, NOT_UTF8])
def test_a_status_detail_fits_its_trailers(text: str) -> None:
    detail = fit_detail(text)
    assert len(quote(detail, safe=" ")) <= DETAIL_LIMIT_BYTES
    assert detail.isprintable() or len(quote(detail, safe=" ")) > DETAIL_LIMIT_BYTES * 0.8


class OddError(Exception):
    def __getattr__(self, name: str) -> object:
        raise SystemExit(name)


def carrying(value: object) -> Exception:
    error = ValueError("it carries something")
    error.__ripieno_failure_value__ = value  # type: ignore[attr-defined]
    return error


def test_what_an_exception_carries_for_programs_is_bytes_of_a_bounded_length() -> None:
    longest = bytes(FAILURE_VALUE_LIMIT_BYTES)
    assert value_of(TaskError("text", value=b"")) == b""
    assert TaskError("text", value=b"bytes").value == value_of(TaskError("text", value=b"bytes")) == b"bytes"
    assert value_of(carrying(bytearray(b"any bytes"))) == b"any bytes"
    assert value_of(carrying(longest)) == longest
    for error in (ValueError(), TaskError("text"), carrying(longest + b"x"), carrying("text"), carrying(3), OddError()):
        assert value_of(error) is None
