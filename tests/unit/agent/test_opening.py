"""An attempt's first messages: the same story by chunks and by files."""

from pathlib import Path

import pytest

from ripieno.agent.attempts.attempt import Attempt, RunOptions, Spooled
from ripieno.agent.attempts.opening import Opener, items_with_files, opening, whole_opening
from ripieno.agent.conversation.gathering import Limits
from ripieno.wire.protos.armonik_v2 import worker_service_pb2
from ripieno.wire.protos.v1 import batch_worker_pb2
from ripieno.worker.conversation.conversation import Conversation, TaskReady

LIMITS = Limits(data_chunk_max_size=100, inline_limit_bytes=1_000)
LARGE = bytes(range(256)) * 10


def attempt_with(payload: bytes | Spooled, **inputs: bytes | Spooled) -> Attempt:
    made = Attempt(1, 2, 3, "s", "t", "t###1", RunOptions({"a": "b"}, 60.0), ["k", "l"], list(inputs), b"")
    if isinstance(payload, bytes):
        made.payload = payload
    else:
        made.spooled_payload = payload
    made.number, made.inputs = 7, dict(inputs)
    return made


@pytest.fixture
def spooled(tmp_path: Path) -> Spooled:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return Spooled("large", path, len(LARGE))


def told(conversation: Conversation) -> tuple[object, ...]:
    """What a worker makes of it."""
    init = conversation.init
    data = {key: spool.read() for key, spool in conversation.data.items()}
    conversation_told = (init.session_id, init.task_id, dict(init.task_options), list(init.expected_output_keys))
    payload = conversation.payload.read()
    conversation.close()
    return (*conversation_told, payload, data)


def by_messages(messages: list[worker_service_pb2.ProcessRequest]) -> tuple[object, ...]:
    conversation = Conversation()
    events = [conversation.receive(message) for message in messages]
    assert [event for event in events if event is not None] == [TaskReady()]
    return told(conversation)


def by_items(items: list[batch_worker_pb2.BatchRequest.Item]) -> tuple[object, ...]:
    conversation, events = Conversation(), []
    for item in items:
        assert item.attempt == 7
        events += [conversation.receive(message) for message in item.requests]
        if item.HasField("file"):
            conversation.receive_file(item.file.path, item.file.size)
    assert [event for event in events if event is not None] == [TaskReady()]
    return told(conversation)


async def test_by_chunks_and_by_files(spooled: Spooled) -> None:
    for attempt in (
        attempt_with(spooled),
        attempt_with(spooled, small=b"s", large=spooled, empty=b""),
        attempt_with(b"p" * 250, large=spooled, middling=b"m" * 250),
        attempt_with(b"", large=spooled),
    ):
        chunks = by_messages([message async for message in opening(attempt, LIMITS)])
        items = list(items_with_files(attempt, LIMITS))
        assert by_items(items) == chunks
        files = [item.file.path for item in items if item.HasField("file")]
        assert files == [str(spooled.path)] * len(attempt.spooled())


def test_whole_and_batched() -> None:
    for attempt in (
        attempt_with(b""),
        attempt_with(b"p" * 100),
        attempt_with(b"p" * 101),
        attempt_with(b"p", small=b"s", middling=b"m" * 250, empty=b""),
    ):
        parse = worker_service_pb2.ProcessRequest.FromString
        whole = by_messages([parse(message) for message in whole_opening(attempt, LIMITS)])
        batch = batch_worker_pb2.BatchRequest.FromString(Opener().encode(attempt, LIMITS))
        assert by_items(list(batch.items)) == whole
