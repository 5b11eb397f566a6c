"""How sub-tasks are told: the size decides which way, and the agent's grammar accepts both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import TaskOptions
from ripieno.wire.large_tasks import LargeTasksReader, PayloadContinued, TaskOpened
from ripieno.wire.options import options_from_wire
from ripieno.worker.conversation.sub_tasks import SubTask, check_sub_tasks, creation_replies

CHUNK_BYTES = 8
OPTIONS = TaskOptions(max_duration_us=1_500_000, max_retries=0, priority=7, options={"a": "b"})


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.sampled_from([None, OPTIONS]))
def test_both_ways_carry_the_same(payloads: list[bytes], options: TaskOptions | None) -> None:
    tasks = [SubTask(payload, [f"r{n}"], [f"d{n}"], id=f"t{n}") for n, payload in enumerate(payloads)]
    replies = list(creation_replies("9", tasks, options, CHUNK_BYTES))
    assert {reply.request_id for reply in replies} == {"9"}
    told: dict[str, bytes] = {}
    if sum(map(len, payloads)) <= CHUNK_BYTES:
        (reply,) = replies
        small = reply.create_small_task
        told = {request.id: request.payload for request in small.task_requests}
        assert [list(request.expected_output_keys) for request in small.task_requests] == [
            task.expected_output_keys for task in tasks
        ]
        sent = small.task_options if small.HasField("task_options") else None
    else:
        reader = LargeTasksReader(CHUNK_BYTES)
        reader.init_request()
        first, *rest = [reply.create_large_task for reply in replies]
        task_id = ""
        for message in rest:
            if message.HasField("init_task"):
                event = reader.init_task(message.init_task)
                if isinstance(event, TaskOpened):
                    task_id = event.id
                    told[task_id] = b""
                    assert (*event.expected_output_keys, *event.data_dependencies) == (
                        f"r{task_id[1:]}",
                        f"d{task_id[1:]}",
                    )
            else:
                part = reader.task_payload(message.task_payload)
                told[task_id] += part.data if isinstance(part, PayloadContinued) else b""
        sent = first.init_request.task_options if first.init_request.HasField("task_options") else None
    assert told == {f"t{n}": payload for n, payload in enumerate(payloads)}
    assert (None if sent is None else options_from_wire("options", sent)) == options


def test_many_names_are_streamed_too() -> None:
    tasks = [SubTask(b"", [f"{n}-" + "r" * 900]) for n in range(1200)]
    assert len(list(creation_replies("1", tasks, None, 84_000))) > 1200


@pytest.mark.parametrize(
    ("tasks", "field"),
    [
        ([], "sub_tasks"),
        ([SubTask(b"", ["r"], id=" ")], "sub_tasks[0].id"),
        ([SubTask(b"", ["r"], id="a"), SubTask(b"", ["q"], id="a")], "sub_tasks[1].id"),
        ([SubTask(b"", ["r"]), SubTask(b"", ["r"])], "sub_tasks[1].expected_output_keys"),
    ],
)
def test_what_can_be_seen_here_is_refused_here(tasks: list[SubTask], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_sub_tasks(tasks, None)
    assert caught.value.field == field


def test_options_out_of_range_are_refused_here() -> None:
    with pytest.raises(InvalidRequestError, match=r"options\.priority"):
        check_sub_tasks([SubTask(b"", ["r"])], TaskOptions(1, 0, 100))


def test_a_streamed_batch_names_a_result_of_each_task() -> None:
    with pytest.raises(InvalidRequestError, match="must name a result of each"):
        creation_replies("1", [SubTask(b"x" * 9, [])], None, CHUNK_BYTES)


def test_ids_are_fresh_unless_given() -> None:
    assert SubTask(b"", ["r"]).id != SubTask(b"", ["r"]).id
