"""What a handler has in its task beside inputs and results: the attempt's number, and a log."""

import logging
import re
import sys

import pytest

from ripieno.worker import AsyncTask, Task
from ripieno.worker.running.in_process import run_task

LINE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


@pytest.mark.parametrize(("task_id", "number"), [("t", 0), ("t###1", 1), ("t###12", 12), ("t###x", 0)])
def test_the_number_of_the_attempt_is_that_of_its_id(task_id: str, number: int) -> None:
    assert run_task(lambda task: str(task.attempt).encode(), task_id=task_id).result == str(number).encode()


def test_a_record_is_a_line_on_standard_error_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    def handle(task: Task) -> bytes:
        task.log.debug("left out")
        task.log.info("half of %d", 7)
        try:
            raise ValueError("no\nnumber")
        except ValueError:
            task.log.exception("it failed")
        task.log.setLevel(logging.DEBUG)
        task.log.debug("kept")
        return b""

    assert run_task(handle).ok
    told = capsys.readouterr()
    assert told.out == ""
    first, second, *trace, last = told.err.splitlines()
    assert re.fullmatch(f"{LINE}INFO half of 7", first)
    assert re.fullmatch(f"{LINE}ERROR it failed", second)
    assert trace[0] == "  Traceback (most recent call last):" and trace[-2:] == ["  ValueError: no", "  number"]
    assert re.fullmatch(f"{LINE}DEBUG kept", last)


async def test_a_log_belongs_to_one_attempt_and_is_remembered_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    loggers: list[logging.Logger] = []

    def handle(task: Task) -> bytes:
        assert task.log is task.log
        loggers.append(task.log)
        task.log.setLevel(logging.ERROR)
        return b""

    known, handlers = dict(logging.root.manager.loggerDict), list(logging.root.handlers)
    for _ in range(3):
        assert run_task(handle, task_id="of a task").ok
    assert len({id(each) for each in loggers}) == 3
    assert len({id(handler) for each in loggers for handler in each.handlers}) == 1
    assert (logging.root.manager.loggerDict, logging.root.handlers) == (known, handlers)


def test_a_handler_may_have_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(task: AsyncTask) -> bytes:
        monkeypatch.setattr(sys, "stderr", None)
        task.log.warning("to nobody")
        return b"done"

    assert run_task(handle).result == b"done"
