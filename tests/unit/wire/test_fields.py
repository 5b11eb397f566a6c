"""Counting a message's fields without parsing it."""

import pytest

from ripieno.wire.fields import count_field
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2

REQUEST = submitter_service_pb2.CreateSmallTaskRequest(
    session_id="s" * 200,
    task_options=objects_pb2.TaskOptions(priority=1),
    task_requests=[objects_pb2.TaskRequest(id=f"t{n}", payload=b"x" * n) for n in range(300)],
)
NUMBER = REQUEST.DESCRIPTOR.fields_by_name["task_requests"].number


def test_fields_are_counted_up_to_the_most() -> None:
    data = REQUEST.SerializeToString()
    assert count_field(data, NUMBER, 1000) == 300
    assert count_field(data, NUMBER, 7) == 7
    assert count_field(b"", NUMBER, 7) == 0


@pytest.mark.parametrize("cut", [1, 2, 3, 50, 150])
def test_a_message_that_is_cut_off_is_counted_to_its_end(cut: int) -> None:
    assert count_field(REQUEST.SerializeToString()[:-cut], NUMBER, 1000) <= 300


@pytest.mark.parametrize("junk", [b"\xff", b"\xff" * 50, b"\x0b\x0b", b"\x09\x00", b"\x0a\xff\xff\xff\xff\x7f"])
def test_junk_is_no_trouble(junk: bytes) -> None:
    assert count_field(junk, NUMBER, 1000) in (0, 1)
