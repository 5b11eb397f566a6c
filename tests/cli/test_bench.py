"""`ripieno bench` against a running cluster."""

import json
from pathlib import Path

from click.testing import CliRunner

from cli.calls import sessions
from cli.running import running_up
from ripieno.cli.root import cli

PNG = b"\x89PNG\r\n\x1a\n"


async def test_a_cluster_is_measured_and_the_rate_is_drawn(tmp_path: Path) -> None:
    async with running_up(tmp_path / "data", "--slots", "1") as up:
        at = ("--address", up.address)
        small = ("bench", "--tasks", "50", "--singles", "3", *at)
        measured = CliRunner().invoke(
            cli, [*small, "--task-time", "0.001", "--plot", str(tmp_path / "rate.png"), "--output", "json"]
        )
        assert measured.exit_code == 0, measured.output
        found = json.loads(measured.stdout)
        assert (found["tasks"], found["failed"]) == (50, 0)
        assert found["tasks_per_second"] > 0
        assert found["single_task_ms"]["p50"] >= 1
        assert 0 < found["utilisation"]["percent"] <= 100
        assert (tmp_path / "rate.png").read_bytes().startswith(PNG)

        text = CliRunner().invoke(cli, [*small, "--plot", str(tmp_path / "missing" / "rate.png")])
        assert "tasks/s" in text.stdout
        assert "name another file" in text.output

        (tmp_path / "payload").write_bytes(b"of no function")
        failed = CliRunner().invoke(cli, [*small, "--payload", str(tmp_path / "payload")])
        assert failed.exit_code == 1
        assert "54 tasks failed, the first because" in failed.output

        late = CliRunner().invoke(cli, ["bench", "--tasks", "100", "--task-time", "1", "--limit", "1", *at])
        assert late.exit_code == 124
        assert "the rest was cancelled; raise --limit" in late.output

        # Every one of these sessions takes no more work.
        listed = json.loads(CliRunner().invoke(cli, ["session", "list", *at, "--output", "json"]).stdout)
        assert {entry["status"] for entry in listed} == {"CANCELLED"}
        assert len(listed) == len(await sessions(up.address))


def test_a_cluster_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    refused = CliRunner().invoke(cli, ["bench", "--tasks", "1", "--address", f"127.0.0.1:{unused_tcp_port}"])
    assert refused.exit_code == 4
    assert str(unused_tcp_port) in refused.output
