"""`ripieno session`, `task` and `result` against a running cluster."""

import json
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
from click.testing import CliRunner, Result

from cli.calls import create_session, patiently
from cli.running import running_up
from ripieno.cli.root import cli
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--output", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


async def submit(address: str, session: str, *tasks: objects_pb2.TaskRequest) -> None:
    request = submitter_service_pb2.CreateSmallTaskRequest(session_id=session, task_requests=tasks)
    reply = await patiently(address, lambda submitter: submitter.CreateSmallTasks(request))
    assert reply.WhichOneof("Data") == "successfull"


async def test_a_session_from_its_start_to_its_cancellation(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        at = ("--address", up.address)
        assert answer("session", "list", *at) == []
        await create_session(up.address, "s 1")
        call = cloudpickle.dumps((len, ("four",), {}))
        await submit(
            up.address,
            "s 1",
            objects_pb2.TaskRequest(id="a", expected_output_keys=["length"], payload=call),
            objects_pb2.TaskRequest(id="b", expected_output_keys=["other"], data_dependencies=["never announced"]),
        )
        wait = objects_pb2.ResultRequest(session="s 1", key="length")
        await patiently(up.address, lambda submitter: submitter.WaitForAvailability(wait))

        got = run("result", "get", "s 1", "length", "--to", str(tmp_path / "got"), *at)
        assert got.exit_code == 0, got.output
        assert pickle.loads((tmp_path / "got").read_bytes()) == 4
        missing = run("result", "get", "s 1", "other", *at)
        assert missing.exit_code == 1
        assert "is not there yet: task b makes it" in missing.output
        assert answer("result", "show", "s 1", "length", "other", *at) == [
            {"key": "length", "status": "COMPLETED"},
            {"key": "other", "status": "CREATED"},
        ]
        partly = run("result", "show", "s 1", "length", "no such", *at)
        assert partly.exit_code == 3
        assert partly.stdout.splitlines()[1].split() == ["length", "COMPLETED"]
        assert "session 's 1' has no result 'no such'" in partly.stderr
        assert answer("task", "list", "s 1", *at) == [
            {"id": "a", "status": "COMPLETED"},
            {"id": "b", "status": "SUBMITTED"},
        ]
        assert answer("task", "list", "s 1", "--status", "submitted", *at) == [{"id": "b", "status": "SUBMITTED"}]
        assert answer("task", "show", "a", *at) == {"id": "a", "status": "COMPLETED", "reason": ""}
        assert answer("task", "cancel", "a", "b", *at) == [
            {"id": "a", "status": "COMPLETED"},
            {"id": "b", "status": "CANCELLED"},
        ]
        shown = answer("session", "show", "s 1", *at)
        assert shown == {"id": "s 1", "status": "RUNNING", "tasks": {"COMPLETED": 1, "CANCELLED": 1}}
        assert answer("session", "cancel", "s 1", *at) == {"id": "s 1", "status": "CANCELLED"}
        assert answer("session", "list", *at) == [{"id": "s 1", "status": "CANCELLED"}]


async def test_what_a_task_has_printed(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1", "--output-bytes", "10") as up:
        await create_session(up.address, "s")
        code = "import sys; print('printed out'); sys.stderr.write('wrong')"
        call = cloudpickle.dumps((exec, (code, {}), {}))
        await submit(up.address, "s", objects_pb2.TaskRequest(id="t", expected_output_keys=["r"], payload=call))
        wait = objects_pb2.ResultRequest(session="s", key="r")
        await patiently(up.address, lambda submitter: submitter.WaitForAvailability(wait))
        at = ("--address", up.address)
        for arguments, out, err in [
            ((), "inted out\n", "[2 bytes of standard output before this are not kept]\nwrong"),
            (
                ("--follow", "--attempt", "0", "--stdout"),
                "inted out\n",
                "[2 bytes of standard output before this are not kept]\n",
            ),
            (("--stderr",), "wrong", ""),
        ]:
            logs = run("task", "logs", "t", *arguments, *at)
            assert (logs.exit_code, logs.stdout, logs.stderr) == (0, out, err)
        beyond = run("task", "logs", "t", "--attempt", "3", *at)
        assert beyond.exit_code == 3
        assert "task 't' has no attempt 3; its latest is 0" in beyond.output
        unknown = run("task", "logs", "no such", *at)
        assert unknown.exit_code == 3
        assert "there is no task 'no such'" in unknown.output


async def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        for arguments in (
            ("session", "show", "x"),
            ("session", "cancel", "x"),
            ("task", "list", "x"),
            ("task", "show", "x"),
            ("result", "show", "x", "key"),
        ):
            result = run(*arguments, "--address", up.address)
            assert result.exit_code == 3
            assert "'x'" in result.output


def test_without_a_cluster_the_way_out_is_said() -> None:
    result = run("session", "list", "--address", "127.0.0.1:1")
    assert result.exit_code == 4
    assert "no answer from 127.0.0.1:1" in result.output
    assert "ripieno up" in result.output


async def test_a_file_is_stored_read_and_deleted(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        at = ("--address", up.address)
        await create_session(up.address, "s")
        (tmp_path / "small").write_bytes(b"small")
        (tmp_path / "large").write_bytes(bytes(300_000))
        put = run("result", "put", "s", str(tmp_path / "small"), *at)
        assert put.exit_code == 0, put.output
        small = put.output.strip()
        large = answer("result", "put", "s", str(tmp_path / "large"), "--name", "zeros", *at)
        assert (large["name"], large["size"]) == ("zeros", 300_000)
        for key, data in ((small, b"small"), (large["key"], bytes(300_000))):
            got = run("result", "get", "s", key, "--to", str(tmp_path / "got"), *at)
            assert got.exit_code == 0, got.output
            assert (tmp_path / "got").read_bytes() == data
        assert answer("result", "delete", "s", large["key"], *at) == [{"key": large["key"], "status": "DELETED"}]
        gone = run("result", "get", "s", large["key"], *at)
        assert gone.exit_code == 1
        assert "its data was deleted" in gone.output
        again = run("result", "delete", "s", large["key"], small, "no such", *at)
        assert again.exit_code == 3
        assert f"session 's' has no data of '{large['key']}', 'no such'" in again.output
        assert small in again.output
        unknown = run("result", "put", "none", str(tmp_path / "small"), *at)
        assert unknown.exit_code == 3
        assert "there is no session 'none'" in unknown.output


async def test_the_life_of_a_session(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        at = ("--address", up.address)
        await create_session(up.address, "s")
        assert answer("session", "pause", "s", *at)["status"] == "PAUSED"
        await submit(up.address, "s", objects_pb2.TaskRequest(id="a", expected_output_keys=["k"]))
        resumed = answer("session", "resume", "s", *at)
        assert (resumed["status"], sum(resumed["tasks"].values())) == ("RUNNING", 1)
        assert run("session", "stop-submission", "s", *at).exit_code == 2
        assert not answer("session", "stop-submission", "s", "--clients", *at)["client_submission"]
        refused = run("session", "purge", "s", *at)
        assert refused.exit_code == 5 and "cannot be purged: it is RUNNING" in refused.output
        assert answer("session", "close", "s", *at)["status"] == "CLOSED"
        assert answer("session", "cancel", "s", *at)["status"] == "CANCELLED"
        assert answer("session", "delete", "s", "--yes", *at) == {"id": "s", "status": "DELETED"}
        assert answer("session", "delete", "s", "--yes", *at) == {"id": "s", "status": "DELETED"}
        gone = run("session", "resume", "s", *at)
        assert gone.exit_code == 3 and "'s' does not exist" in gone.output
