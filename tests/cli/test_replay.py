"""`ripieno replay` against a running cluster: what it fetches, runs, shows and compares."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import grpc
import pytest
import pytest_asyncio

from cli.running import DEADLINE_S, running_up
from ripieno.client import Client, Session, TaskDefinition
from ripieno.wire.protos.v1 import tasks_pb2, tasks_pb2_grpc
from ripieno.worker import SubTask, Task
from ripieno.worker.author.with_task import with_task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_up(tmp_path_factory.mktemp("replay") / "data", "--slots", "1") as up:
        yield up.address


@pytest.fixture
def session(address: str) -> Iterator[Session]:
    with Client(address) as client:
        yield client.session(max_retries=0)


def replay(session: Session, task_id: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, and standard error."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "ripieno",
            "replay",
            "--address",
            session.target._connection.address,
            task_id,
            *arguments,
        ],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert "most recent call last" not in ended.stderr or "fail" in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


HANDLERS = """
from ripieno import worker

worker.startup(lambda: print("started"))
worker.shutdown(lambda: print("stopped"))

async def handle(task):
    print("failing")
    raise ValueError("no")
"""


def call(function: Callable[..., Any], *args: Any) -> bytes:
    pickled: bytes = cloudpickle.dumps((function, args, {}))
    return pickled


def test_a_result_is_compared_with_the_one_of_now(session: Session, tmp_path: Path) -> None:
    def read(path: Path) -> str:
        print("reading")
        return path.read_text()

    file = tmp_path / "file"
    file.write_text("one")
    task = session.submit(call(read, file))
    assert task.result(timeout=DEADLINE_S)
    code, out, err = replay(session, task.id)
    assert (code, out) == (0, "reading\n")
    assert f"attempt 0 of task '{task.id}' (COMPLETED)" in err
    assert f"result '{task.id}': the same (" in err

    file.write_text("two")
    code, _, err = replay(session, task.id)
    assert code == 1
    assert "different from byte " in err
    assert "    recorded: 'one'\n    now:      'two'\n" in err

    file.unlink()
    code, _, err = replay(session, task.id)
    assert code == 1
    assert "it completed then and fails now:" in err
    assert "FileNotFoundError" in err


def test_a_failure_is_compared_with_the_one_of_now(session: Session, tmp_path: Path) -> None:
    def read(path: Path) -> str:
        if not path.exists():
            raise FileNotFoundError(path.name)
        return path.read_text()

    file = tmp_path / "file"
    task = session.submit(call(read, file))
    session.wait(timeout=DEADLINE_S)
    code, out, err = replay(session, task.id, "--debug", stdin="p path.name\nq\n")
    assert code == 0
    assert "it fails for the same reason:" in err
    assert "'file'" in out
    file.write_text("here by now")
    code, _, err = replay(session, task.id, "--attempt", "0", "--debug")
    assert code == 1
    assert "it failed then (ERROR) and does not fail now; recorded:" in err
    assert "there is nothing to debug" in err
    code, _, err = replay(session, task.id, "--attempt", "5")
    assert (code, err) == (3, f"Error: task '{task.id}' has no attempt 5; it has 0\n")
    assert replay(session, "nobody")[0] == 3


def test_inputs_of_any_size_are_fetched_and_nothing_is_created(session: Session) -> None:
    data = session.put(b"d" * 3_000_000)
    resource = session.put(b"resource")

    @with_task
    def split(task: Task, rest: bytes, key: str, needed: str) -> None:
        print(task.resource(key), len(task.data[needed]), len(rest), task.task_id, dict(task.options))
        task.submit([SubTask(b"x", [task.expected_output_keys[1]], [needed], id=f"{task.task_id}-child")])
        task.send_result(task.expected_output_keys[0], rest)

    payload = call(split, b"r" * 2_000_000, resource.key, data.key)
    task = session.submit(payload, expected_outputs=["left", "right"], dependencies=data)
    assert session.result("left", timeout=DEADLINE_S) == b"r" * 2_000_000
    before = session.task_ids()
    code, out, err = replay(session, task.id)
    assert code == 0, err
    assert out == f"b'resource' 3000000 2000000 {task.id} {{}}\n"
    assert f"would create sub-task '{task.id}-child': makes 'right', needs '{data.key}', payload of 1 bytes" in err
    assert "result 'left': the same (2,000,000 bytes)" in err
    assert f"result 'right': passed on to sub-task '{task.id}-child', so it is not compared" in err
    assert session.task_ids() == before

    with grpc.insecure_channel(session.target._connection.address) as channel:
        request = tasks_pb2.GetInputsRequest(task_id=f"{task.id}###7", offset=1_000_000)
        first, *rest = tasks_pb2_grpc.TasksStub(channel).GetInputs(request)
    assert (first.head.session_id, first.head.payload_size) == (session.id, len(payload))
    assert b"".join(each.payload for each in (first, *rest)) == payload[1_000_000:]
    assert [each.complete for each in (first, *rest)][-2:] == [False, True]

    session.wait(timeout=DEADLINE_S)
    session.close_session()
    session.purge()
    code, _, err = replay(session, task.id)
    assert code == 5
    assert "is gone" in err


def test_a_handler_can_be_named(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [task, waiting] = session.submit_many(
        [TaskDefinition(b"bytes of some worker"), TaskDefinition(b"", dependencies="never")]
    )
    task_id = task.id
    with pytest.raises(Exception, match="UnpicklingError"):
        task.result(timeout=DEADLINE_S)
    code, _, err = replay(session, task_id)
    assert code == 2
    assert "--handler MODULE:FUNCTION" in err
    code, _, err = replay(session, task_id, "--handler", "builtins:no_such")
    assert code == 2
    assert "module 'builtins' has no 'no_such'" in err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_handlers.py").write_text(HANDLERS)
    code, out, err = replay(session, task_id, "--handler", "my_handlers:handle")
    assert (code, out) == (1, "started\nfailing\nstopped\n")
    assert "it fails for another reason:" in err
    assert "+ValueError: no" in err
    code, _, err = replay(session, waiting.id)
    assert code == 5
    assert "input 'never' of task" in err
