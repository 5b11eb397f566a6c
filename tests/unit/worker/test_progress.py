"""How far an attempt has come: told at most once in a while, the latest wins, and nothing is kept of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.progress import LONGEST_TEXT, Progress
from ripieno.worker.attempts import progress_reports
from ripieno.worker.attempts.progress_reports import ProgressReports
from ripieno.worker.attempts.reply_outbox import Outbox
from ripieno.worker.running.in_process import run_task
from unit.worker import requests
from unit.worker.agents import BatchStream, agent_of, rest_of, results_of
from unit.worker.processes import WorkerProcess


@pytest_asyncio.fixture
async def stream(worker: WorkerProcess) -> AsyncIterator[BatchStream]:
    async with agent_of(worker.address, "batch") as agent:
        yield agent.batch_stream()


async def test_what_is_said_too_soon_is_told_later_and_the_latest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_reports, "REPORT_EVERY_S", 0.05)
    told: asyncio.Queue[Progress] = asyncio.Queue()
    reports = ProgressReports(Outbox(asyncio.get_running_loop()), told.put_nowait, lambda: False)
    began = asyncio.get_running_loop().time()
    for percent in range(101):
        reports.report(Progress(percent / 100))
    async with asyncio.timeout(20):
        assert await told.get() == Progress(0.0), "at once"
        assert await told.get() == Progress(1.0)
    assert asyncio.get_running_loop().time() - began >= 0.05
    assert told.empty()


async def test_nothing_is_told_of_an_attempt_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_reports, "REPORT_EVERY_S", 0.0)
    told: list[Progress] = []
    reports = ProgressReports(Outbox(asyncio.get_running_loop()), told.append, lambda: True)
    reports.report(Progress(0.5))
    monkeypatch.setattr(progress_reports, "REPORT_EVERY_S", 0.01)
    reports.report(Progress(1.0))
    while reports._waiting is not None:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)
    assert told == [Progress(0.5)]


async def test_a_handler_says_how_far_it_has_come(stream: BatchStream) -> None:
    run = await stream.begin(requests.whole_task("t", b"half of it", options={"do": "progress"}))
    assert results_of(await rest_of(run)) == {"r": b"said"}
    assert [(each.fraction, each.text) for each in run.progress] == [(0.5, "half of it")], "the rest came too soon"


def test_only_what_can_be_told_is_taken() -> None:
    for fraction in (-0.1, 1.1, float("nan"), float("inf")):
        outcome = run_task(lambda task, fraction=fraction: task.progress(fraction))
        assert isinstance(outcome.error, InvalidRequestError) and "fraction: is " in str(outcome.error)
    assert run_task(lambda task: task.progress(1, "\udcff" * 1_000) or b"x").result == b"x"
    assert Progress.sound(0.5, "x" * 1_000) == Progress(0.5, "x" * LONGEST_TEXT)
    assert Progress.sound(float("nan"), "a\0b") == Progress(0.0, "a\ufffdb")
    assert Progress.sound(7.0, "") == Progress(1.0)
