"""The conversation machine, fed by hand: every order of messages, legal or not."""

import re
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.wire.protos.armonik_v2 import objects_pb2
from ripieno.worker.conversation.conversation import (
    Asked,
    Conversation,
    DataArrived,
    DataRefused,
    Event,
    Stage,
    SubTasksAnswered,
    TaskReady,
)
from ripieno.worker.terms.errors import ProtocolViolation
from unit.worker import requests
from unit.worker.requests import ProcessRequest

#: A letter for each kind of message, and what may come of them: all prefixes of a task.
MESSAGES: dict[str, Callable[[], ProcessRequest]] = {
    "I": lambda: requests.init_request(first_chunk=b"1"),
    "p": lambda: requests.payload_chunk(b"2"),
    "P": requests.payload_complete,
    "k": lambda: requests.data_key("d"),
    "d": lambda: requests.data_chunk(b"3"),
    "D": requests.data_complete,
    "L": requests.last_data,
    "a": lambda: requests.sub_tasks_taken("unasked"),
    "r": lambda: requests.datum_refusal("resource", "unasked", "k", "no"),
    "?": ProcessRequest,
    "!": lambda: ProcessRequest(compute=requests.Compute()),
    "0": lambda: ProcessRequest(compute=requests.Compute(payload=objects_pb2.DataChunk())),
}
LEGAL = re.compile("(I(p*(P((kd*D)*(kd*|L)?)?)?)?)?")
WHOLE = re.compile("Ip*P(kd*D)*L")


def test_a_task_in_the_order_of_the_protocol() -> None:
    conversation = Conversation()
    messages = list(requests.whole_task("t", b"abcdefg", data={"x": b"12345", "y": b""}, chunk_bytes=3))
    assert [conversation.receive(message) for message in messages[:-1]] == [None] * (len(messages) - 1)
    assert conversation.receive(messages[-1]) == TaskReady()
    assert conversation.payload.read() == b"abcdefg"
    assert {key: spool.read() for key, spool in conversation.data.items()} == {"x": b"12345", "y": b""}
    assert not conversation.holds_files


def test_a_key_that_comes_twice_counts_once() -> None:
    conversation = running(requests.init_request(), requests.payload_complete(), *datum("x", b"1"), *datum("x", b"1"))
    assert {key: spool.read() for key, spool in conversation.data.items()} == {"x": b"1"}


@given(
    st.one_of(
        st.text("IpPkdDL", max_size=12), st.text("".join(MESSAGES), max_size=6), st.from_regex(WHOLE, fullmatch=True)
    )
)
def test_any_order_is_taken_as_far_as_it_is_legal(word: str) -> None:
    conversation = Conversation()
    for index, letter in enumerate(word):
        legal = LEGAL.fullmatch(word[: index + 1]) is not None
        try:
            event = conversation.receive(MESSAGES[letter]())
        except ProtocolViolation:
            assert not legal
            return
        assert legal
        assert event == (TaskReady() if letter == "L" else None)
    assert (conversation.stage is Stage.RUNNING) == (WHOLE.fullmatch(word) is not None)


@given(st.text("IpPkdDL?", max_size=4))
def test_a_whole_task_is_taken_at_once_or_not_at_all(word: str) -> None:
    at_once, by_message = Conversation(), Conversation()
    messages = [MESSAGES[letter]() for letter in word]
    taken = at_once.receive_whole(messages)
    assert taken == (word == "IPL")
    if not taken:
        assert at_once.stage is Stage.START
        return
    assert [by_message.receive(message) for message in messages] == [None, None, TaskReady()]
    assert (at_once.stage, at_once.init) == (by_message.stage, by_message.init)
    assert at_once.payload.read() == by_message.payload.read()


@given(
    st.lists(
        st.tuples(st.sampled_from([Asked.RESOURCE, Asked.COMMON_DATA, Asked.DIRECT_DATA]), st.binary()), max_size=5
    ),
    st.randoms(use_true_random=False),
)
def test_answers_to_several_questions_may_interleave(data: list[tuple[Asked, bytes]], random: Random) -> None:
    conversation = running()
    streams: list[list[ProcessRequest]] = []
    for number, (asked, datum) in enumerate(data):
        conversation.ask(str(number), asked)
        streams.append(requests.datum_answer(asked.value, str(number), f"key-{number}", datum, chunk_bytes=3))
    events: list[Event] = []
    while streams:
        stream = random.choice(streams)
        event = conversation.receive(stream.pop(0))
        assert (event is not None) == (not stream)
        if event is not None:
            streams.remove(stream)
            events.append(event)
    arrived = {event.request_id: event.spool.read() for event in events if isinstance(event, DataArrived)}
    assert arrived == {str(number): datum for number, (_, datum) in enumerate(data)}
    assert not conversation.holds_files


def test_sub_tasks_are_taken_or_refused() -> None:
    conversation = running()
    conversation.ask("1", Asked.CREATE_TASK)
    conversation.ask("2", Asked.CREATE_TASK)
    assert conversation.receive(requests.sub_tasks_refused("2", ["a", "b"])) == SubTasksAnswered("2", True, ("a", "b"))
    assert conversation.receive(requests.sub_tasks_taken("1")) == SubTasksAnswered("1")


def test_data_may_be_refused() -> None:
    conversation = running()
    conversation.ask("1", Asked.RESOURCE)
    assert conversation.receive(requests.datum_refusal("resource", "1", "k", "unknown")) == DataRefused(
        "1", "k", "unknown"
    )


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([requests.sub_tasks_taken("1")], "create_task answers '1', which is no open question"),
        ([requests.datum_refusal("common_data", "1", "k", "no")], "common_data answers '1'"),
        ([requests.datum_refusal("resource", "2", "k", "no")], "resource answers '2'"),
        ([requests.datum_refusal("resource", "1", "k", "no")] * 2, "resource answers '1'"),
        (requests.datum_answer("resource", "1", "k", b"")[-1:], "resource.data for '1' arrived before its init"),
        (requests.datum_answer("resource", "1", "k", b"")[:1] * 2, "resource.init for '1' arrived after its init"),
        ([ProcessRequest(resource=ProcessRequest.DataReply(reply_id="1"))], "type not set for '1'"),
        ([requests.init_request()], "compute.init_request arrived where an answer"),
        ([ProcessRequest()], "type not set arrived where an answer"),
    ],
)
def test_an_answer_that_was_not_asked_for_is_a_violation(answers: list[ProcessRequest], said: str) -> None:
    conversation = running()
    conversation.ask("1", Asked.RESOURCE)
    for answer in answers[:-1]:
        conversation.receive(answer)
    with pytest.raises(ProtocolViolation, match=re.escape(said)):
        conversation.receive(answers[-1])


def test_an_answer_about_sub_tasks_must_say_which() -> None:
    conversation = running()
    conversation.ask("1", Asked.CREATE_TASK)
    with pytest.raises(ProtocolViolation, match="neither success nor failure"):
        conversation.receive(ProcessRequest(create_task=ProcessRequest.CreateTask(reply_id="1")))


def test_what_is_on_disk_is_closed_wherever_it_ends() -> None:
    big = bytes(2_000_000)
    conversation = Conversation()
    for message in [requests.init_request(), requests.payload_chunk(big), requests.payload_complete()]:
        conversation.receive(message)
    for message in [requests.data_key("d"), requests.data_chunk(big)]:
        conversation.receive(message)
    assert conversation.holds_files
    reader = conversation.payload.open()
    conversation.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read()


def running(*messages: ProcessRequest) -> Conversation:
    """A conversation whose task has arrived, last_data included."""
    conversation = Conversation()
    for message in (*(messages or (requests.init_request(), requests.payload_complete())), requests.last_data()):
        conversation.receive(message)
    return conversation


def datum(key: str, data: bytes) -> Iterator[ProcessRequest]:
    yield from (requests.data_key(key), requests.data_chunk(data), requests.data_complete())
