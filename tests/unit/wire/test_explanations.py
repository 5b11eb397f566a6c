"""Explanations there and back: nothing of any kind of reason is lost on the wire."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from ripieno.domain.explanations import (
    KINDS,
    About,
    AttemptTold,
    Cancelled,
    Cancelling,
    ChainLink,
    Deadline,
    Done,
    Explanation,
    Failed,
    HandedOver,
    InputFailed,
    MissingInput,
    NotServed,
    OutputMissing,
    Reason,
    Running,
    SessionStands,
    WaitsForInputs,
    WaitsForSlot,
    WaitsForTime,
)
from ripieno.domain.sentences import length, reason
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.wire.explanations import explanation_from_wire, explanation_to_wire
from ripieno.wire.protos.v1 import tasks_pb2

AT = datetime(2026, 11, 27, 21, 43, 49, 123456, UTC)
SECONDS = timedelta(seconds=90, microseconds=1)
ATTEMPT = AttemptTold(0, TaskStatus.ERROR, "agent", "worker", AT, None, AT, "broke")
ABOUTS: list[About] = [
    WaitsForInputs(
        2,
        (
            MissingInput("k", ResultStatus.NAMED, "", None),
            MissingInput("l", ResultStatus.CREATED, "t", TaskStatus.PROCESSING),
        ),
    ),
    WaitsForInputs(1, (MissingInput("k", ResultStatus.CREATED, "", None),)),
    WaitsForInputs(1, (MissingInput("k", ResultStatus.DELETED, "", None),)),
    WaitsForInputs(1, ()),
    InputFailed((ChainLink("t", TaskStatus.ERROR, "k"), ChainLink("u", TaskStatus.TIMEOUT, "")), True, "why\nwhy", False, (ATTEMPT,), 3),
    InputFailed((ChainLink("t", TaskStatus.ERROR, "k"), ChainLink("u", TaskStatus.SUBMITTED, "")), False, "", True, (), 0),
    NotServed("gpu", ("", "cpu", "a", "b")),
    NotServed("", ()),
    WaitsForSlot("p", 1, 2, 2, 0),
    WaitsForSlot("", 1, 1, 1, 10_000),
    WaitsForSlot("", 2, 4, 3, 1),
    WaitsForTime(AT, SECONDS, 1),
    WaitsForTime(AT, SECONDS, 0),
    *(SessionStands("s", status) for status in SessionStatus),
    HandedOver("agent", True, AT, SECONDS),
    Running("agent", False, "worker", AT, SECONDS, timedelta(hours=1)),
    Running("agent", True, "worker", AT, timedelta(hours=2), timedelta(hours=1)),
    Cancelling("agent", True, ""),
    Cancelling("agent", True, "its deadline passed"),
    Deadline(AT, SECONDS),
    Deadline(AT, timedelta(seconds=-1)),
    WaitsForTime(AT, timedelta(), 0),
    Failed(TaskStatus.ERROR, 0, "gone", timedelta(hours=1), False),
    Failed(TaskStatus.TIMEOUT, 3, "late", timedelta(hours=1), False),
    Failed(TaskStatus.TIMEOUT, 0, "its deadline passed", timedelta(hours=1), True),
    Cancelled("cancelled", True),
    Done("agent", "worker", AT, None),
    Done("agent", "worker", AT, SECONDS),
    OutputMissing("k", ResultStatus.DELETED, "", True),
    OutputMissing("k", ResultStatus.ABORTED, "child", False),
    OutputMissing("k", ResultStatus.ABORTED, "", False),
]  # fmt: skip


def test_each_kind_of_reason_is_here() -> None:
    assert {type(about) for about in ABOUTS} == set(KINDS.values()) == set(get_args(About))
    assert set(KINDS) == {field.name for field in tasks_pb2.Reason.DESCRIPTOR.oneofs_by_name["about"].fields}


@pytest.mark.parametrize("about", ABOUTS, ids=lambda about: type(about).__name__)
def test_nothing_is_lost(about: About) -> None:
    told = Explanation("t", "s", TaskStatus.SUBMITTED, 2, (reason("t", about),), (ATTEMPT,), 3)
    assert (
        explanation_from_wire(tasks_pb2.Explanation.FromString(explanation_to_wire(told).SerializeToString())) == told
    )


@pytest.mark.parametrize("about", ABOUTS, ids=lambda about: type(about).__name__)
def test_each_reason_is_one_sentence_that_ends_with_the_way_out(about: About) -> None:
    sentence = reason("a task's id", about).sentence
    assert sentence[0].isupper() and sentence.endswith(".") and "\n" not in sentence
    assert "; " in sentence


def test_a_reason_of_a_newer_server_keeps_its_sentence() -> None:
    message = tasks_pb2.Explanation(status="SUBMITTED", reasons=[tasks_pb2.Reason(kind="moon", sentence="It is full.")])
    assert explanation_from_wire(message).reasons == (Reason("moon", "It is full.", None),)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.3504, "350 ms"), (1, "1 s"), (9.96, "10 s"), (9.5, "9.5 s"), (59.7, "1 min"), (185, "3 min 5 s"), (3_600, "1 h"),
     (7_800, "2 h 10 min"), (86_400, "1 d"), (273_600, "3 d 4 h"), (-1, "0 ms")],
)  # fmt: skip
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert length(timedelta(seconds=seconds)) == words
