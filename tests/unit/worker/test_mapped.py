"""What workers run for `ripieno map`: commands and functions, in this process."""

import json
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ripieno.functions.running.handler import handle
from ripieno.worker import TaskError
from ripieno.worker.mapped.command import CommandFailed, run_command
from ripieno.worker.mapped.function import call_function
from ripieno.worker.mapped.processes import CommandProcess
from ripieno.worker.running.in_process import Outcome, run_task


def command(line: bytes | str, cwd: str | None = None, variables: dict[str, str] | None = None) -> Outcome:
    line = line.encode() if isinstance(line, str) else line
    return run_task(
        handle, pickle.dumps((run_command, (line, cwd, variables or {}), {})), task_id="t###2", session_id="s"
    )


def call(name: str, value: Any, *, spread: bool = False) -> Outcome:
    return run_task(handle, pickle.dumps((call_function, (name, json.dumps(value)), {"spread": spread})))


def test_standard_output_is_the_result_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("printf 'a\\377\\000b'; echo told >&2").result == b"a\xff\x00b"
    assert capfd.readouterr().err == "told\n"
    assert command(b"printf %s '\xff'").result == b"\xff"
    assert command("true").result == b""
    assert command("pwd", str(tmp_path)).result == f"{tmp_path}\n".encode()
    assert command("echo $RIPIENO_TASK_ID $RIPIENO_SESSION_ID $X; cat", variables={"X": "y"}).result == b"t s y\n"


def test_long_output_is_sent_while_it_comes() -> None:
    outcome = command("head -c 5000000 /dev/zero; printf end")
    assert outcome.results.size("out") == 5_000_003
    with outcome.results.open("out") as file:
        assert file.read().rstrip(b"e nd").strip(b"\0") == b""


@pytest.mark.parametrize("before", ["", "head -c 300000 /dev/zero | tr '\\0' x;"])
def test_a_command_that_fails_tells_its_exit_code_and_its_last_words(
    before: str, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = command(f"{before} printf 'no\\377such\\n' >&2; exit 3")
    assert isinstance(outcome.error, CommandFailed)
    assert (len(outcome.results), outcome.is_final) == (0, False)
    assert outcome.reason == f"{CommandFailed.__module__}.CommandFailed: exit code 3\nno\\xffsuch"
    assert len(capfd.readouterr().out) == (64 * 1024 if before else 0)
    killed = command("kill -9 $$")
    assert killed.reason is not None
    assert "SIGKILL" in killed.reason


def test_where_a_command_cannot_run() -> None:
    outcome = command("true", "/no/such/folder")
    assert (outcome.reason or "").startswith("the directory '/no/such/folder' is not there on this worker")
    assert outcome.is_final


def test_a_line_that_is_too_long() -> None:
    outcome = command("true " + "x" * 10_000_000)
    assert (outcome.reason or "").startswith("the command line of 10,000,005 bytes is longer than this system takes")
    assert outcome.is_final


def gone(pid_file: Path) -> Callable[[], bool]:
    def is_gone() -> bool:
        return not psutil.pid_exists(int(pid_file.read_text()))

    return is_gone


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert command(f"sleep 1000 & echo $! > {pid_file}; echo done").result == b"done\n"
    until(gone(pid_file))


@pytest.mark.parametrize("line", ["trap '' TERM; sleep 1000", "exec sleep 1000 > /dev/null 2>&1", "yes"])
def test_a_cancelled_command_is_ended_with_its_children(tmp_path: Path, line: str) -> None:
    pid_file = tmp_path / "pid"
    cancelled = threading.Event()
    with CommandProcess(f"echo $$ > {pid_file}; {line}".encode(), None, os.environ) as process:

        def cancel() -> None:
            until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()))
            cancelled.set()

        thread = threading.Thread(target=cancel)
        thread.start()
        for _ in process.pieces(cancelled.is_set):
            pass
        thread.join()
    until(gone(pid_file))


def test_a_function_is_called_by_its_name() -> None:
    assert call("math:sqrt", 16).result == b"4.0"
    assert call("builtins:dict", {"ä": [1, None]}, spread=True).result == '{"ä": [1, null]}'.encode()
    assert call("unit.worker.test_mapped:doubled", 4).result == b"8"


async def doubled(value: int) -> int:
    return 2 * value


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("no_such_module:f", 1, "this worker has no module 'no_such_module', which no_such_module:f needs"),
        ("math:no_such", 1, "has no 'no_such'"),
        ("math:pi", 1, "math:pi is float, which cannot be called"),
        ("builtins:set", [1], "returned what JSON cannot hold"),
        ("math:log1p", float("nan"), "returned what JSON cannot hold"),
    ],
)
def test_a_function_that_cannot_be_called_fails_for_good(name: str, value: object, said: str) -> None:
    outcome = call(name, value)
    assert isinstance(outcome.error, TaskError)
    assert said in (outcome.reason or "")


def test_what_a_function_raises_fails_the_attempt() -> None:
    outcome = call("math:sqrt", -1)
    assert (type(outcome.error), outcome.is_final) == (ValueError, False)
    assert "mapped" not in (outcome.reason or "")


def test_a_function_of_the_old_kind_is_still_called() -> None:
    outcome = run_task(handle, pickle.dumps((sum, ([1, 2],), {})))
    assert pickle.loads(outcome.result) == 3
