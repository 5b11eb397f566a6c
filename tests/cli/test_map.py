"""`ripieno map` as a real process against a running cluster."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner

from cli.running import DEADLINE_S, running_up
from ripieno.cli.root import cli
from ripieno.client import Client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_up(tmp_path_factory.mktemp("map") / "data", "--slots", "2") as up:
        yield up.address


class Maps:
    """Runs maps in a directory of their own, where their names are those of no other test."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self.folder = folder

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "ripieno", "map", "--address", self._address, *arguments],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Exit code, standard output, and standard error."""
        return self.end(self.start(*arguments), stdin)

    def end(self, process: "subprocess.Popen[bytes]", stdin: bytes = b"") -> tuple[int, bytes, str]:
        out, err = process.communicate(stdin, timeout=DEADLINE_S)
        return process.returncode, out, err.decode()


@pytest.fixture
def maps(address: str, tmp_path: Path) -> Maps:
    return Maps(address, tmp_path)


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_commands_run_for_each_input_and_results_are_in_order(maps: Maps) -> None:
    assert maps.run("sleep 0.$((3 - {#})); echo {#} {} {/.}", "x/a.txt", "b c", "é") == (
        0, "1 x/a.txt a\n2 b c b c\n3 é é\n".encode(), "",
    )  # fmt: skip
    assert maps.run("printf %s", "-", stdin=b"a\xff\r\n\nb") == (0, b"a\xffb", "")
    assert maps.run("echo one; printf two #", "--tag", "--input", "-", stdin=b"1\n2\n") == (
        0, b"1\tone\n1\ttwo\n2\tone\n2\ttwo\n", "",
    )  # fmt: skip
    (maps.folder / "here").write_text("found ")
    assert maps.run("cat {}; echo $X $Y", "here", "--env", "X=y z", "--env", "Y=") == (0, b"found y z\n", "")


def test_what_is_done_is_not_run_again(maps: Maps) -> None:
    line = ("echo {} >> log; echo r{}", "1", "2", "3")
    assert maps.run(*line) == (0, b"r1\nr2\nr3\n", "")
    code, out, err = maps.run(*line)
    assert (code, out) == (0, b"r1\nr2\nr3\n")
    assert "3 done, 3 of them by an earlier run" in err
    assert len((maps.folder / "log").read_text().split()) == 3
    assert maps.run(*line, "--fresh")[0] == 0
    assert len((maps.folder / "log").read_text().split()) == 6


def test_a_session_of_somebody_else_is_never_deleted(maps: Maps, address: str) -> None:
    with Client(address) as client:
        session = client.session(id=maps.folder.name)
        code, _, err = maps.run("true", "1", "--name", session.id, "--fresh")
        assert (code, err) == (0, "")
        code, _, err = maps.run("true", "1", "--name", f"map-{session.id}")
        assert "1 done, 1 of them by an earlier run" in err
        assert client.open_session(session.id).counts() == {}


def test_failures_are_told_and_run_again(maps: Maps) -> None:
    line = ("cat {} || { echo 'no\xffne' >&2; exit 7; }", "a", "b", "--output", "out")
    (maps.folder / "a").write_text("A")
    code, out, err = maps.run(*line)
    assert (code, out) == (1, b"")
    assert "input 2 (b) failed: exit code 7" in err
    assert "    cat: b: No such file or directory" in err
    assert "1 of 2 inputs failed; the same command runs them again" in err
    assert not (maps.folder / "out").exists()
    assert (maps.folder / "out.partial").read_text() == "A"
    (maps.folder / "b").write_text("B")
    assert maps.run(*line, "--no-retry-failed")[0] == 1
    assert maps.run(*line)[0] == 0
    assert sorted(each.name for each in maps.folder.iterdir()) == ["a", "b", "out"]
    assert (maps.folder / "out").read_text() == "AB"
    code, _, err = maps.run("test {} = x", "x", "y", "--fail-fast")
    assert code == 1
    assert "stopped at a failure" in err


def test_retries_and_time_limits(maps: Maps) -> None:
    assert maps.run("mkdir {} && exit 1; echo ok", "d", "--retries", "1") == (0, b"ok\n", "")
    code, _, err = maps.run("sleep 1000", "1", "--max-duration", "0.2")
    assert code == 1
    assert "max_duration" in err


def test_functions_take_and_give_json(maps: Maps) -> None:
    (maps.folder / "lines").write_text('{"year": 2000, "month": 1, "day": 2}\n\n{"year": 1, "month": 13, "day": 1}\n')
    assert maps.run("builtins:dict", "--kwargs", "--input", "lines", "--output", "out.jsonl")[0] == 0
    rows = [json.loads(each) for each in (maps.folder / "out.jsonl").read_text().splitlines()]
    assert [row["month"] for row in rows] == [1, 13]
    assert maps.run("builtins:len", "äb", "c") == (0, b"2\n1\n", "")
    code, out, _ = maps.run("math:sqrt", "-", "--tag", stdin=b"4\n-1\n")
    assert code == 1
    assert [json.loads(each) for each in out.splitlines()] == [
        {"number": 1, "input": 4, "result": 2.0},
        {"number": 2, "input": -1, "error": "ValueError: math domain error"},
    ]
    code, _, err = maps.run("math:sqrt", "-", "--name", maps.folder.name, stdin=b"4\nx\n")
    assert code == 2
    assert "input 2 is no JSON" in err
    code, _, err = maps.run("no_such_module:f", "1")
    assert code == 1
    assert "this worker has no module 'no_such_module'" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=lambda each: str(each))
def test_a_run_that_was_ended_in_the_middle_is_continued(maps: Maps, number: signal.Signals, code: int) -> None:
    log, go = maps.folder / "log", maps.folder / "go"
    (maps.folder / "lines").write_text("".join(f"{each}\n" for each in range(30)))
    waiting = "echo {} >> log; while [ {} -ge 10 ] && [ ! -e go ]; do sleep 0.02; done; echo r{}"
    line = (waiting, "--input", "lines", "--output", "out")
    process = maps.start(*line)
    until(lambda: log.exists() and len(log.read_text().split()) == 12)
    partial = maps.folder / "out.partial"
    until(lambda: partial.exists() and len(partial.read_text().splitlines()) == 10)
    process.send_signal(number)
    ended, _, err = maps.end(process)
    assert ended == code
    if number is not signal.SIGKILL:
        assert "stopped: 10 done, 0 failed" in err
    assert not (maps.folder / "out").exists()
    go.touch()
    assert maps.run(*line)[0] == 0
    assert (maps.folder / "out").read_text().split() == [f"r{each}" for each in range(30)]
    assert sorted(map(int, log.read_text().split())) == list(range(30))


def test_a_reader_that_goes_away_ends_the_run(maps: Maps) -> None:
    process = maps.start("seq 100000 #", *map(str, range(100)))
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 141
    assert process.stderr is not None
    with process.stderr as errors:
        assert b"Traceback" not in errors.read()
    assert process.stdin is not None
    process.stdin.close()


def test_results_for_which_there_is_no_room_are_asked_for_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ripieno.cli.mapping.window.HELD_BYTES", 10)
    inputs = [str(each) for each in range(20)]
    wait = "[ {} = 0 ] && while [ ! -e 19 ]; do sleep 0.02; done; touch {}; echo result {}"
    result = CliRunner().invoke(cli, ["map", "--address", address, wait, *inputs])
    assert (result.exit_code, result.stdout.splitlines()) == (0, [f"result {each}" for each in inputs])


def test_a_cluster_for_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_module.py").write_text("def double(value):\n    return 2 * value\n")
    (tmp_path / "lines").write_text("1\n[2]\n")
    result = CliRunner().invoke(cli, ["map", "--local", "my_module:double", "--input", "lines"])
    assert (result.exit_code, result.stdout) == (0, "2\n[2, 2]\n"), result.output


def test_large_results_are_streamed(maps: Maps) -> None:
    assert maps.run("head -c {}00000 /dev/zero", "50", "1", "--output", "out")[0] == 0
    assert (maps.folder / "out").stat().st_size == 5_100_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("true",), "neither as arguments nor with --input"),
        (("true", "a", "--input", "-"), "both as arguments and with --input"),
        (("true", "--input", "/no/such/file"), "does not exist"),
        (("true", "a", "--kwargs"), "--kwargs is for functions with --input"),
        (("math:sqrt", "a", "--cwd", "/"), "--cwd is for commands alone"),
        (("true", "a", "--env", "=x"), "names no variable"),
        (("true", "a", "--env", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE is not set here"),
        (("true", "a", "--max-duration", "0"), "--max-duration"),
        (("true", "a", "--local", "--address", "127.0.0.1:1"), "--local and --address both say which cluster"),
    ],
)
def test_what_is_meant_must_be_said(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(cli, ["map", *arguments])
    assert result.exit_code == 2
    assert said in result.output


def test_where_no_cluster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ripieno.cli.mapping.starting._FIRST_PATIENCE_S", 0.1)
    result = CliRunner().invoke(cli, ["map", "true", "a", "--address", f"unix:{tmp_path}/none"])
    assert result.exit_code == 4
    assert "start a cluster there with `ripieno up`" in result.output
