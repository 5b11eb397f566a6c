"""`ripieno session|task|result|agent|partition list` against a running cluster."""

import asyncio
import csv
import io
import json
import signal
import sys
from collections.abc import AsyncIterator

import cloudpickle
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from cli.calls import create_session, patiently
from cli.running import DEADLINE_S, running_up
from ripieno.cli.calling import listing
from ripieno.cli.root import cli
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2


def options(priority: int, **free: str) -> objects_pb2.TaskOptions:
    of = objects_pb2.TaskOptions(max_retries=0, priority=priority, options=free)
    of.max_duration.seconds = 60
    return of


async def _submit(
    address: str, session_id: str, of: objects_pb2.TaskOptions, tasks: list[objects_pb2.TaskRequest]
) -> None:
    call = submitter_service_pb2.CreateSmallTaskRequest(session_id=session_id, task_options=of, task_requests=tasks)
    await patiently(address, lambda submitter: submitter.CreateSmallTasks(call))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A cluster with a session ``one`` of a task that ends well and one that fails, and a session ``two`` that waits."""
    async with running_up(tmp_path_factory.mktemp("cluster") / "data", "--slots", "1") as up:
        for name in ("one", "two"):
            await create_session(up.address, name)
        request = objects_pb2.TaskRequest
        well, ill = cloudpickle.dumps((len, ("four",), {})), cloudpickle.dumps((len, (4,), {}))
        submissions: list[tuple[str, objects_pb2.TaskOptions, list[objects_pb2.TaskRequest]]] = [
            ("one", options(7, color="red"), [request(id="run-1", expected_output_keys=["k1"], payload=well)]),
            ("one", options(3), [request(id="run-2", expected_output_keys=["k2"], payload=ill)]),
            ("two", options(3, color="a,b"), [request(id=f"t{n}", data_dependencies=["never"]) for n in range(5)]),
        ]
        for session_id, of, tasks in submissions:
            await _submit(up.address, session_id, of, tasks)
        wait = submitter_service_pb2.WaitRequest()
        wait.filter.session.ids.append("one")
        await patiently(up.address, lambda submitter: submitter.WaitForCompletion(wait))
        yield up.address


def run(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--address", address])


def rows(address: str, *arguments: str) -> list[object]:
    result = run(address, *arguments, "--output", "json")
    assert result.exit_code == 0, result.output
    found: list[object] = json.loads(result.stdout)
    return found


def ids(address: str, *arguments: str) -> list[object]:
    return [row["id"] for row in rows(address, "task", "list", *arguments)]  # type: ignore[index]


def test_tasks_are_filtered_sorted_and_limited(address: str) -> None:
    assert ids(address) == ["run-1", "run-2", "t0", "t1", "t2", "t3", "t4"]
    assert ids(address, "one") == ["run-1", "run-2"]
    assert ids(address, "--filter", "status=ERROR or options.priority>5 and id^=run-") == ["run-1", "run-2"]
    assert ids(address, "--filter", "options.color='a,b'", "--sort", "-id", "--limit", "2") == ["t4", "t3"]
    assert ids(address, "one", "--filter", "id=run-1 or id=run-2", "--status", "error") == ["run-2"]
    assert ids(address, "--filter", "submitted_at<-1h") == []
    assert ids(address, "--filter", "data_dependencies*=never", "--sort", "-number", "--limit", "1") == ["t4"]


def test_columns_and_shapes(address: str) -> None:
    asked = (
        "task",
        "list",
        "--columns",
        "id,options.color,options,data_dependencies,duration,ended_at",
        "--filter",
        "id in (run-2, t0)",
    )
    [failed, waits] = rows(address, *asked)
    assert isinstance(failed, dict) and isinstance(waits, dict)
    assert 0 < failed["duration"] < 60 and failed["ended_at"].endswith("Z")
    assert waits == {
        "id": "t0",
        "options.color": "a,b",
        "options": {"max_duration": 60.0, "max_retries": 0, "priority": 3, "options": {"color": "a,b"}},
        "data_dependencies": ["never"],
        "duration": None,
        "ended_at": None,
    }
    lines = run(address, *asked, "--output", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [failed, waits]
    table = list(csv.reader(io.StringIO(run(address, *asked, "--output", "csv").stdout)))
    assert table[0] == ["id", "options.color", "options", "data_dependencies", "duration", "ended_at"]
    assert table[2][:2] == ["t0", "a,b"] and table[2][3:] == ["never", "", ""]
    for shape in ("table", "text"):
        printed = run(address, "task", "list", "one", "--output", shape).stdout
        assert printed == "id     status\nrun-1  COMPLETED\nrun-2  ERROR\n"
    for shape, empty in (("json", "[]\n"), ("jsonl", ""), ("csv", "id,status\n"), ("table", "id  status\n")):
        assert run(address, "task", "list", "--filter", "attempt>5", "--output", shape).stdout == empty


def test_lists_of_the_other_nouns(address: str) -> None:
    assert rows(address, "session", "list", "--sort", "-number") == [
        {"id": "two", "status": "RUNNING"},
        {"id": "one", "status": "RUNNING"},
    ]
    assert rows(address, "result", "list", "one", "--columns", "key,status,owner_task_id,size")[1] == {
        "key": "k2", "status": "ABORTED", "owner_task_id": "run-2", "size": 0,
    }  # fmt: skip
    [agent] = rows(address, "agent", "list", "--columns", "connected,slots,partitions")
    assert agent == {"connected": True, "slots": 1, "partitions": [""]}
    assert rows(address, "partition", "list") == [{"name": "", "agents": 1, "slots": 1, "busy": 0, "claimable": 0}]


def test_a_list_goes_on_page_after_page(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_PAGE", 2)
    assert ids(address) == ["run-1", "run-2", "t0", "t1", "t2", "t3", "t4"]
    assert ids(address, "--limit", "5", "--sort", "-id") == ["t4", "t3", "t2", "t1", "t0"]
    wide = run(address, "task", "list", "--columns", "id,status").stdout.splitlines()
    assert len(wide) == 8 and wide[0].split() == ["id", "status"]


def test_unknown_ids_are_told(address: str) -> None:
    for arguments, said in (
        (("task", "list", "none"), "there is no session 'none'; `ripieno session list` shows all"),
        (("task", "list", "--filter", "id=run-1 or id in (x, y)"), "there is no task 'x', 'y'"),
        (("session", "list", "--filter", "id=one or id=three"), "there is no session 'three'"),
        (("result", "list", "--filter", "session_id=none"), "there is no session 'none'"),
    ):
        result = run(address, *arguments)
        assert (result.exit_code, said in result.stderr) == (3, True), result.output
    assert "run-1  COMPLETED" in run(address, "task", "list", "--filter", "id=run-1 or id=x").stdout


def test_what_is_no_filter_is_told_with_its_flag(address: str) -> None:
    for flag, value in (("--filter", "statsu=ERROR"), ("--sort", "statsu"), ("--columns", "statsu")):
        result = run(address, "task", "list", flag, value)
        assert result.exit_code == 2
        said = " ".join(result.stderr.split())
        assert f"Invalid value for {flag}: 'statsu' is not a field of tasks; did you mean 'status'?" in said
    refused = run(address, "task", "list", "--sort", "options")
    assert refused.exit_code == 5 and "sort by one of them" in refused.stderr


@pytest.mark.asyncio(loop_scope="module")
async def test_a_watched_list_is_shown_again_until_it_is_interrupted(address: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ripieno", "task", "list", "one", "--watch", "0.1", "--output", "jsonl"),
        *("--address", address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        seen = [json.loads(await process.stdout.readline())["id"] for _ in range(5)]
        assert seen == ["run-1", "run-2", "run-1", "run-2", "run-1"]
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors.strip()) == (130, b"")


def test_an_agent_still_runs_without_a_word(address: str) -> None:
    """The command that runs an agent is a group now: its flags are where they were."""
    help_ = CliRunner().invoke(cli, ["agent", "--help"])
    assert "--slots" in help_.output and "list" in help_.output
    wrong = CliRunner().invoke(cli, ["agent", "--slots", "none"])
    assert wrong.exit_code == 2 and "'none' is not a valid integer" in wrong.output
    assert CliRunner().invoke(cli, ["agent", "lst"]).exit_code == 2
