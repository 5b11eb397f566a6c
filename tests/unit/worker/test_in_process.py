"""A handler that runs in this process, without an agent."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from ripieno.domain.errors import InvalidRequestError
from ripieno.worker import AsyncTask, ResultUnavailable, SubTask, SubTasksRefused, Task, TaskError, TaskOptions
from ripieno.worker.running.in_process import run_task, run_task_async

MIB = 1024 * 1024


def test_a_handler_sees_its_task_and_returns_its_result() -> None:
    def handle(task: Task) -> bytes:
        assert task.options == {"colour": "red"}
        assert task.expected_output_keys == ("out",)
        assert (task.task_id, task.session_id, task.cancelled) == ("t", "s", False)
        with task.open_payload() as payload, task.open_data("a") as datum:
            return payload.read() + task.data["b"] + datum.read() + task.resource("r")

    outcome = run_task(
        handle, b"p", data={"a": b"1", "b": b"2"}, options={"colour": "red"}, resources={"r": b"3"}, task_id="t",
        session_id="s",
    )  # fmt: skip
    assert outcome.ok
    assert outcome.result == b"p213"
    assert dict(outcome.results) == {"out": b"p213"}
    assert (outcome.missing, outcome.sub_tasks, outcome.reason, outcome.error) == ((), (), None, None)


def test_large_inputs_and_results_are_not_held_in_memory(tmp_path: Path) -> None:
    source = tmp_path / "payload"
    source.write_bytes(os.urandom(3 * MIB))

    def handle(task: Task) -> None:
        with task.open_payload() as payload:
            task.send_result("big", iter(lambda: payload.read(100_000), b""))
        task.send_result("small", b"")

    outcome = run_task(handle, source, data={"d": source}, expected_output_keys=["big", "small", "never"])
    assert outcome.results.size("big") == 3 * MIB
    with outcome.results.open("big") as file:
        assert file.read() == source.read_bytes()
    assert outcome.results["small"] == b""
    assert outcome.missing == ("never",)
    with pytest.raises(ValueError, match="2 results: big, small"):
        _ = outcome.result


@pytest.mark.parametrize("payload_bytes", [1, 200_000])
def test_sub_tasks_are_noted_and_not_created(payload_bytes: int) -> None:
    def handle(task: Task) -> None:
        [first] = task.submit(
            [SubTask(b"x" * payload_bytes, ["out"], ["needed"], id="child")], TaskOptions(1_000_000, 2, 3, {"a": "b"})
        )
        with pytest.raises(SubTasksRefused) as refused:
            task.submit([SubTask(b"", ["other"], id="child")])
        assert refused.value.ids == ("child",)
        task.submit([SubTask(b"", ["more"], id="second")])
        assert first.id == "child"

    outcome = run_task(handle, data={"needed": b""})
    assert outcome.ok, outcome.reason
    assert outcome.missing == ()
    assert [each.id for each in outcome.sub_tasks] == ["child", "second"]
    child = outcome.sub_tasks[0]
    assert (child.payload, child.expected_output_keys, child.data_dependencies) == (
        b"x" * payload_bytes,
        ("out",),
        ("needed",),
    )
    assert outcome.sub_task_options == {"child": TaskOptions(1_000_000, 2, 3, {"a": "b"})}


def test_what_a_handler_says_meanwhile_hurts_nobody() -> None:
    def handle(task: Task) -> bytes:
        task.progress(0.5, "half of it")
        task.log.info("on the way")
        assert not task.wait_cancelled(0)
        return str(task.attempt).encode()

    assert run_task(handle, task_id="t###2").result == b"2"


def test_failures_are_told_as_a_cluster_tells_them() -> None:
    def raises(task: Task) -> bytes:
        task.send_result("out", b"half")
        task.submit([SubTask(b"", ["more"])])
        raise KeyError(task.payload)

    outcome = run_task(raises, b"what")
    assert not outcome.ok
    assert (len(outcome.results), outcome.sub_tasks, outcome.missing, outcome.is_final) == (0, (), (), False)
    assert isinstance(outcome.error, KeyError)
    assert outcome.reason is not None
    assert outcome.reason.endswith("KeyError: b'what'")
    assert "running" not in outcome.reason  # no frames of the SDK above the handler

    def gives_up(task: Task) -> bytes:
        raise TaskError("no such portfolio")

    outcome = run_task(gives_up)
    assert (outcome.reason, outcome.is_final) == ("no such portfolio", True)
    with pytest.raises(ValueError, match="no such portfolio"):
        _ = outcome.result

    outcome = run_task(lambda task: "text")  # type: ignore[arg-type]
    assert outcome.reason is not None
    assert "returned str" in outcome.reason
    outcome = run_task(lambda task: b"", expected_output_keys=["a", "b"])
    assert outcome.reason is not None
    assert "owed are: 'a', 'b'" in outcome.reason


def test_what_was_not_given_is_not_available() -> None:
    outcome = run_task(lambda task: task.common_data("elsewhere"))
    assert isinstance(outcome.error, ResultUnavailable)
    outcome = run_task(lambda task: task.data["elsewhere"])
    assert isinstance(outcome.error, KeyError)


def test_names_break_the_same_rules() -> None:
    with pytest.raises(InvalidRequestError, match="expected_output_keys"):
        run_task(lambda task: None, expected_output_keys=["a", "a"])
    with pytest.raises(TypeError, match=r"write \['out'\]"):
        run_task(lambda task: None, expected_output_keys="out")
    with pytest.raises(TypeError, match="payload is bytes or a path"):
        run_task(lambda task: None, "text")  # type: ignore[arg-type]


def test_ctrl_c_is_the_callers() -> None:
    def interrupted(task: Task) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(interrupted)


def test_a_task_may_be_used_in_several_threads() -> None:
    def handle(task: Task) -> None:
        threads = [
            threading.Thread(target=task.send_result, args=(key, [b"x" * 50_000] * 20))
            for key in task.expected_output_keys
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    outcome = run_task(handle, expected_output_keys=["a", "b", "c"])
    assert {key: len(value) for key, value in outcome.results.items()} == dict.fromkeys("abc", 1_000_000)


async def asynchronous(task: AsyncTask) -> bytes:
    await asyncio.sleep(0)
    return await task.resource("r") + task.payload


def test_coroutine_functions_run_on_a_loop_of_their_own() -> None:
    assert run_task(asynchronous, b"p", resources={"r": b"1"}).result == b"1p"


async def test_coroutine_functions_run_on_the_callers_loop() -> None:
    assert (await run_task_async(asynchronous, b"p", resources={"r": b"1"})).result == b"1p"
    assert (await run_task_async(lambda task: b"plain")).result == b"plain"


def test_a_forked_child_does_not_go_on_as_the_caller() -> None:
    def handle(task: Task) -> bytes:
        child = os.fork()
        if child == 0:
            return b"child"
        _, status = os.waitpid(child, 0)
        return str(os.waitstatus_to_exitcode(status)).encode()

    assert run_task(handle).result == b"0"
