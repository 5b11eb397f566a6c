"""The rules of timers: keys of the free map that are the system's, their texts, and what callers may say."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import OptionChanges, TaskOptions, check_changes, check_options
from ripieno.domain.timers import DEADLINE, DELAY, JITTER, KEYS, MAX_DELAY, TimerOptions, check_timers


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("ripieno.delay", "soon", "seconds"),
        ("ripieno.delay", "-1", "digits"),
        ("ripieno.delay", "1e3", "digits"),
        ("ripieno.delay", "1 s", "digits"),
        ("ripieno.delay", "", "digits"),
        ("ripieno.delay", "inf", "digits"),
        ("ripieno.delay", "1000000000", "999,999,999"),
        ("ripieno.delay", "٣", "digits"),
        ("ripieno.deadline", "0", "at once"),
        ("ripieno.deadline", "tomorrow", "2027-01-31T18:00:00Z"),
        ("ripieno.deadline", "2027-01-31", "2027-01-31T18:00:00Z"),
        ("ripieno.deadline", "2027-01-31T18:00:00", "2027-01-31T18:00:00Z"),
        ("ripieno.deadline", "2027-02-31T18:00:00Z", "no time"),
        ("ripieno.deadline", "2027-01-31T25:00:00Z", "no time"),
        ("ripieno.deadline", "2027-01-31T18:00:00+16:00", "offset"),
        ("ripieno.retry.first_delay", "x", "0 for no delay"),
        ("ripieno.retry.factor", "0.5", "1 for equal delays"),
        ("ripieno.retry.max_delay", "0", "leaves no delay"),
        ("ripieno.retry.jitter", "1.5", "between 0 and 1"),
        ("ripieno.retry.times", "3", "ripieno.retry.first_delay"),
        ("ripieno.", "", "ripieno.delay"),
    ],
)
def test_what_is_refused_names_the_field_the_value_and_the_way_out(key: str, value: str, why: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_options("task_options", TaskOptions(1, 0, 1, {key: value}))
    text = str(caught.value)
    assert text.startswith(f"task_options.options[{key!r}]") and why in text
    assert key not in KEYS or repr(value) in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ripieno.delay", "0"),
        ("ripieno.delay", "999999999.999999999"),
        ("ripieno.deadline", "0.001"),
        ("ripieno.deadline", "2027-01-31T18:00:00Z"),
        ("ripieno.deadline", "2027-01-31T18:00:00.123456789-07:30"),
        ("ripieno.retry.first_delay", "0"),
        ("ripieno.retry.factor", "1"),
        ("ripieno.retry.jitter", "1.0"),
        ("ripieno", "anything"),
        ("my.ripieno.delay", "anything"),
    ],
)
def test_what_is_taken(key: str, value: str) -> None:
    check_options("task_options", TaskOptions(1, 0, 1, {key: value}))


def test_a_delay_that_ends_after_the_deadline_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="never start"):
        check_timers("options", {DELAY: "60", DEADLINE: "60"})
    check_timers("options", {DELAY: "60", DEADLINE: "60.1"})
    check_timers("options", {DELAY: "60", DEADLINE: "2000-01-01T00:00:00Z"})  # which the store ends at once


def test_changes_are_checked_likewise() -> None:
    with pytest.raises(InvalidRequestError, match=re.escape("options.options['ripieno.delay']")):
        check_changes("options", OptionChanges(options={DELAY: "x"}))


def test_what_callers_say_as_entries() -> None:
    said = TimerOptions(
        delay=timedelta(minutes=1.5), deadline=3600, retry_first_delay=0.25, retry_factor=1.5, retry_max_delay=60.0,
        retry_jitter=0.1,
    )  # fmt: skip
    assert said.entries() == {
        "ripieno.delay": "90",
        "ripieno.deadline": "3600",
        "ripieno.retry.first_delay": "0.25",
        "ripieno.retry.factor": "1.5",
        "ripieno.retry.max_delay": "60",
        "ripieno.retry.jitter": "0.1",
    }
    check_timers("options", said.entries())
    assert TimerOptions().entries() == {}
    assert TimerOptions(delay=0).entries() == {DELAY: "0"}
    assert TimerOptions(delay=1e-6).entries() == {DELAY: "0.000001"}


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-7, minutes=-30))])
def test_a_moment_as_an_entry(zone: timezone) -> None:
    for moment in (datetime(2027, 1, 31, 18, tzinfo=zone), datetime(2027, 1, 31, 18, 0, 0, 5, tzinfo=zone)):
        entries = TimerOptions(deadline=moment).entries()
        check_timers("options", entries)
        assert datetime.fromisoformat(entries[DEADLINE]) == moment


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (TimerOptions(delay="5"), TypeError),  # type: ignore[arg-type]
        (TimerOptions(delay=True), TypeError),
        (TimerOptions(retry_factor=timedelta(1)), TypeError),  # type: ignore[arg-type]
        (TimerOptions(delay=-1), InvalidRequestError),
        (TimerOptions(delay=float("nan")), InvalidRequestError),
        (TimerOptions(retry_max_delay=timedelta(days=20_000)), InvalidRequestError),
        (TimerOptions(deadline=datetime(2027, 1, 31)), InvalidRequestError),  # noqa: DTZ001 - that is the fault
    ],
)
def test_what_callers_may_not_say(said: TimerOptions, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"options\."):
        said.entries()


def test_whether_there_is_a_timer() -> None:
    assert not TaskOptions(1, 0, 1, {MAX_DELAY: "5", JITTER: "0.5"}).sets_timer
    assert TaskOptions(1, 0, 1, {DEADLINE: "5"}).sets_timer and not TaskOptions(1, 0, 1, {DEADLINE: "5"}).is_delayed
    assert not TaskOptions(1, 0, 1, {DELAY: "as before"}).is_delayed
    assert TaskOptions(1, 0, 1, {DELAY: "5"}).is_delayed and not TaskOptions(1, 0, 1, {DELAY: "0.0"}).is_delayed
