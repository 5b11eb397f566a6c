"""`ripieno explain` and the commands `wait`, with their exit codes, against one running cluster."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import cloudpickle
import psutil
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from cli.calls import create_session, patiently
from cli.running import DEADLINE_S, running_up, until
from ripieno.cli.root import cli
from ripieno.client import Client
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Runs until the file is there.
_UNTIL = "import pathlib, time\nwhile not pathlib.Path({path!r}).exists():\n    time.sleep(0.01)"


def run(address: str, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--address", address])


async def ran(address: str, *words: str) -> Result:
    """Run a command beside the test's loop."""
    return await asyncio.to_thread(run, address, *words)


async def started_command(address: str, *words: str) -> asyncio.subprocess.Process:
    """A command as a process: those that run at the same time need one each."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ripieno", *words, "--address", address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def task(task_id: str, code: str, *needs: str) -> objects_pb2.TaskRequest:
    """A task that runs code and makes one result of its own name."""
    payload = cloudpickle.dumps((exec, (code, {}), {}))
    return objects_pb2.TaskRequest(id=task_id, expected_output_keys=[task_id], data_dependencies=needs, payload=payload)


async def submit(address: str, session: str, *tasks: objects_pb2.TaskRequest) -> None:
    request = submitter_service_pb2.CreateSmallTaskRequest(session_id=session, task_requests=tasks)
    reply = await patiently(address, lambda submitter: submitter.CreateSmallTasks(request))
    assert reply.WhichOneof("Data") == "successfull", reply


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_up(tmp_path_factory.mktemp("up") / "data", "--slots", "1") as up:
        yield up.address


async def test_waits_for_what_ends_well(address: str, tmp_path: Path) -> None:
    await create_session(address, "well")
    path = str(tmp_path / "go")
    await submit(address, "well", task("w1", _UNTIL.format(path=path)), task("w2", "pass", "w1"))
    started = await ran(address, "task", "wait", "w1", "--status", "processing", "--timeout", "30")
    assert (started.exit_code, started.output.split()) == (0, ["id", "status", "w1", "PROCESSING"])
    for words in (("session", "wait", "well"), ("task", "wait", "w1"), ("result", "wait", "well", "w1"),
                  ("task", "wait", "w2", "--status", "processing")):  # fmt: skip
        late = await ran(address, *words, "--timeout", "0.05")
        assert late.exit_code == 124, late.output
        assert "after 0.05 s" in late.output
    waits = [
        await started_command(address, *words, "--output", "json")
        for words in (("session", "wait", "well"), ("task", "wait", "w2", "w1"), ("result", "wait", "well", "w2", "w1"))
    ]
    Path(path).touch()
    async with asyncio.timeout(DEADLINE_S):
        session, tasks, results = [json.loads((await wait.communicate())[0]) for wait in waits]
    assert session == {"id": "well", "tasks": {"COMPLETED": 2}}
    assert tasks == [{"id": "w2", "status": "COMPLETED"}, {"id": "w1", "status": "COMPLETED"}]
    assert results == [{"key": "w2", "status": "COMPLETED"}, {"key": "w1", "status": "COMPLETED"}]


async def test_waits_for_what_fails(address: str) -> None:
    await create_session(address, "badly")
    await submit(address, "badly", task("b1", "raise ValueError('no good')"), task("b2", "pass", "b1"))
    session = await ran(address, "session", "wait", "badly")
    assert session.exit_code == 1
    assert "2 tasks did not complete" in session.output
    tasks = await ran(address, "task", "wait", "b1", "b2")
    assert tasks.exit_code == 1
    assert "2 of 2 tasks did not complete; `ripieno explain TASK`" in tasks.stderr
    past = await ran(address, "task", "wait", "b1###1", "--status", "completed")
    assert past.exit_code == 1 and "did not come to COMPLETED" in past.stderr
    reached = await ran(address, "task", "wait", "b1", "--status", "ERROR", "--status", "TIMEOUT")
    assert reached.exit_code == 0
    results = await ran(address, "result", "wait", "badly", "b2")
    assert results.exit_code == 1
    assert results.stdout.split() == ["key", "status", "b2", "ABORTED"]
    assert "1 of 1 results will never be there" in results.stderr

    explained = await ran(address, "explain", "b2")
    assert explained.exit_code == 0
    lines = explained.stdout.splitlines()
    assert lines[0] == "task 'b2' of session 'badly': ERROR"
    assert lines[1] == (
        "It failed without running: input 'b1' was not made: task 'b1' ended in ERROR after 2 attempts: ValueError: no good; "
        "`ripieno task retry b1` runs that one again, and then this one."
    )
    assert lines[3] == "attempts of task 'b1'"
    assert lines[4].split() == ["attempt", "status", "agent", "worker", "began", "took", "reason"]
    assert lines[5].startswith("0        ERROR   ") and lines[5].endswith("  ValueError: no good")
    told = json.loads((await ran(address, "explain", "b1", "--output", "json")).stdout)
    assert (told["task_id"], told["status"], told["attempt"], told["attempts_total"]) == ("b1", "ERROR", 1, 2)
    [reason] = told["reasons"]
    assert (reason["kind"], reason["about"]["attempts"], reason["about"]["status"]) == ("failed", 2, "ERROR")
    assert reason["about"]["max_duration"] == 60.0
    assert [each["number"] for each in told["attempts"]] == [0, 1]


async def test_what_is_not_there(address: str) -> None:
    await create_session(address, "empty")
    for words in (
        ("explain", "none"),
        ("task", "wait", "none"),
        ("session", "wait", "none"),
        ("result", "wait", "none", "k"),
        ("result", "wait", "empty", "k"),
    ):
        result = await ran(address, *words)
        assert (result.exit_code, "Error: " in result.stderr) == (3, True), (words, result.output)
    assert (await ran(address, "session", "wait", "empty")).exit_code == 0


async def test_explained_by_the_client(address: str) -> None:
    await create_session(address, "explained")
    await submit(address, "explained", task("e1", "pass", "nobody"))

    def ask() -> None:
        with Client(address) as client:
            explanation = client.explain("e1")
        assert [reason.kind for reason in explanation.reasons] == ["waits_for_inputs"]
        assert str(explanation).startswith("task 'e1' is SUBMITTED\nIt waits for 1 input: 'nobody'")

    await asyncio.to_thread(ask)


async def test_a_wait_ends_with_ctrl_c(address: str) -> None:
    await create_session(address, "held")
    await submit(address, "held", task("h1", "pass", "nobody"))
    process = await started_command(address, "session", "wait", "held")
    await until(lambda: bool(psutil.Process(process.pid).net_connections("tcp")))
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert (process.returncode, output, errors.strip()) == (130, b"", b"")
