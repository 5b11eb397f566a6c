"""`ripieno task retry` against a running cluster."""

import json
from pathlib import Path

import cloudpickle
import pytest
from click.testing import CliRunner, Result

from cli.calls import create_session, patiently
from cli.running import running_up
from ripieno.cli.root import cli
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, task_status_pb2


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


async def ended(address: str, session: str) -> dict[int, int]:
    """Wait until all tasks of a session are final; how many are in each status."""
    which = submitter_service_pb2.TaskFilter(session=submitter_service_pb2.TaskFilter.IdsRequest(ids=[session]))
    request = submitter_service_pb2.WaitRequest(filter=which)
    counts = await patiently(address, lambda submitter: submitter.WaitForCompletion(request))
    return {each.status: each.count for each in counts.values}


async def test_failed_tasks_are_retried_by_id_and_by_session(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        at = ("--address", up.address)
        await create_session(up.address, "s")
        needed = tmp_path / "needed"
        read = cloudpickle.dumps((Path.read_text, (needed,), {}))
        tasks = [
            objects_pb2.TaskRequest(id="a", expected_output_keys=["ka"], payload=read),
            objects_pb2.TaskRequest(
                id="b", expected_output_keys=["kb"], data_dependencies=["ka"], payload=cloudpickle.dumps((len, ("b",), {}))
            ),
        ]  # fmt: skip
        request = submitter_service_pb2.CreateSmallTaskRequest(session_id="s", task_requests=tasks)
        await patiently(up.address, lambda submitter: submitter.CreateSmallTasks(request))
        assert await ended(up.address, "s") == {task_status_pb2.TASK_STATUS_ERROR: 2}

        partly = run("task", "retry", "a", "nobody", *at)
        assert partly.exit_code == 1
        assert partly.stdout.startswith("1 retried, ")
        assert partly.stderr == "not retried: task 'nobody': there is no such task\n"
        assert await ended(up.address, "s") == {task_status_pb2.TASK_STATUS_ERROR: 2}

        needed.write_text("here")
        none = run("task", "retry", "--session", "s", "--filter", "id^=x or error*='another reason'", *at)
        assert (none.exit_code, none.output) == (0, "0 retried, 0 below them wait again\n")
        answer = run("task", "retry", "--session", "s", "--filter", "id=a and ended_at>=-1h", "--max-retries", "2", "--max-duration", "9.5",
                     "--priority", "7", "--output", "json", *at)  # fmt: skip
        assert answer.exit_code == 0, answer.output
        assert json.loads(answer.stdout) == {"retried": 1, "revived": 1, "not_retried": 0, "reasons": []}
        assert await ended(up.address, "s") == {task_status_pb2.TASK_STATUS_COMPLETED: 2}

        nowhere = run("task", "retry", "--session", "nowhere", *at)
        assert nowhere.exit_code == 3
        assert "session 'nowhere' does not exist" in nowhere.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the tasks to retry"),
        (("--failed",), "name the tasks to retry"),
        (("a", "--failed"), "name tasks, or give --failed"),
        (("--session", "s", "--failed", "--filter", "id=a"), "name tasks, or give --failed"),
        (("--session", "s", "--filter", "color=red"), "color"),
        (("a", "--priority", "0"), "--priority"),
        (("a", "--max-duration", "0"), "--max-duration"),
        (("a", "--delay", "-1"), "--delay"),
        (("a", "--deadline", "tomorrow"), "2027-01-31T18:00:00Z"),
    ],
)
def test_what_is_meant_must_be_said(arguments: tuple[str, ...], said: str) -> None:
    result = run("task", "retry", *arguments)
    assert result.exit_code == 2
    assert said in result.output
