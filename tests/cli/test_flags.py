"""Flags with bad values: the message names the flag, the value and the way out."""

import json

import pytest
from click.testing import CliRunner, Result

from ripieno.cli.root import COMMANDS, cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("up", "--listen", "5001"), ["--listen", "'5001'", "HOST:PORT"]),
        (("up", "--listen", "localhost:http"), ["--listen", "'http'", "65535"]),
        (("up", "--listen", "localhost:70000"), ["--listen", "'70000'", "65535"]),
        (("up", "--listen", "::1:5001"), ["--listen", "[::1]:5001"]),
        (("up", "--slots", "0"), ["--slots", "0"]),
        (("up", "--attach", "unix:relative"), ["--attach", "unix:/path"]),
        (("up", "--attach", "unix:/a", "--worker", "w"), ["--worker", "--attach", "one of the two"]),
        (("up", "--attach", "unix:/a", "--attach", "unix:/a"), ["--attach", "unix:/a", "twice"]),
        (("up", "--worker", " "), ["--worker", "empty"]),
        (("up", "--worker", ""), ["--worker", "empty"]),
        (("up", "--worker", "''"), ["--worker", "empty"]),
        (("up", "--worker", "run 'it"), ["--worker", "no closing quotation", "close the quotes"]),
        (("agent", "--worker", 'run "it'), ["--worker", "no closing quotation", "close the quotes"]),
        (("up", "--worker", "my_tasks:handle"), ["takes a command", "write --worker 'ripieno worker my_tasks:handle'"]),
        (("up", "--slots", "-1"), ["--slots", "-1"]),
        (("up", "--slots", "two"), ["--slots", "two"]),
        (("up", "--drain", "nan"), ["--drain", "'nan'", "number of seconds"]),
        (("up", "--drain", "inf"), ["--drain", "'inf'", "number of seconds"]),
        (("up", "--data", ""), ["--data", "empty"]),
        (("up", "--listen", "http://localhost:5001"), ["--listen", "URL", "localhost:5001"]),
        (("session", "list", "--address", "localhost"), ["--address", "localhost:5001"]),
        (("session", "list", "--address", "a:1,localhost"), ["--address", "'localhost'"]),
        (("up", "--database", "mysql://x"), ["--database", "'mysql://x'", "postgresql://"]),
        (("control",), ["--database"]),
        (("control", "--database", "postgresql:///x", "--lease", "0"), ["--lease", "0"]),
        (("agent", "--control", "a:1,b"), ["--control", "'b'", "HOST:PORT"]),
        (("agent", "--log-file", "/no/such/folder/log"), ["--log-file", "'/no/such/folder/log'", "name another"]),
        (("nothing",), ["nothing"]),
        (("sesion", "list"), ["'sesion'", "Did you mean 'session'?"]),
    ],
)
def test_a_bad_value_is_a_clear_usage_error(arguments: tuple[str, ...], parts: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    message = " ".join(result.output.split())
    for part in parts:
        assert part in message


def test_version_as_json() -> None:
    result = run("version", "--output", "json")
    assert result.exit_code == 0
    assert json.loads(result.output)["ripieno"] == "0.1.0"


def test_a_data_directory_that_cannot_be_made_is_named() -> None:
    result = run("up", "--data", "/dev/null/data")
    assert result.exit_code == 1
    assert "cannot use /dev/null/data: Not a directory; choose another directory with --data" in result.output
