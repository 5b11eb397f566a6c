"""Joining a cluster, starting one, and leaving it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import ripieno
from functions import work
from functions.waiting import until
from ripieno.client import Client, SessionStatus, TaskStatus
from ripieno.functions.calling.private import PrivateCluster

PROGRAM = """
import glob, os, sys, time, ripieno
from helper_of_program import helped
with ripieno.connect(slots=1) as cluster:
    print(cluster.submit(helped, 20).result(60), cluster.submit(lambda x: x + 1, 1).result(60), flush=True)
    child = os.fork()
    if not child:
        with ripieno.connect(cluster.address) as own:
            assert own.submit(helped, 1).result(60) == 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(cluster.submit(helped, 0).result(60), flush=True)
    if not os.fork():
        os.closerange(0, 3)
        end = time.monotonic() + 30  # a child that lives longer keeps no cluster from its end
        while time.monotonic() < end and glob.glob(os.environ["TMPDIR"] + "/ripieno-*"):
            time.sleep(0.05)
        os._exit(0)
    if len(sys.argv) > 1:
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    (tmp_path / "helper_of_program.py").write_text("def helped(x): return x + 1\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    return [sys.executable, str(tmp_path / "program.py")]


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "is killed"])
def test_a_private_cluster_ends_with_its_program_and_leaves_nothing(
    program: list[str], tmp_path: Path, killed: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RIPIENO_ADDRESS"}
    environment |= {"TMPDIR": str(scratch), "XDG_CONFIG_HOME": str(tmp_path)}  # where no contexts are
    ended = subprocess.run(
        [*program, *(["kill"] if killed else [])],
        capture_output=True, text=True, timeout=90, cwd=tmp_path.parent, env=environment,
    )  # fmt: skip
    assert ended.stdout.split() == ["21", "2", "1"], ended.stderr
    assert ended.returncode == (-9 if killed else 0)
    until(lambda: not _processes_of(scratch))
    until(lambda: not list(scratch.glob("ripieno-*")))


def _processes_of(scratch: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(scratch) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_session_without_a_name_is_closed_and_its_tasks_go_on(private: PrivateCluster, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with ripieno.connect(private.address) as cluster:
        future = cluster.submit(work.wait_for, str(mark))
    assert isinstance(future.exception(30), RuntimeError)
    with pytest.raises(RuntimeError, match="closed"):
        cluster.submit(work.square, 1)
    cluster.close()
    mark.touch()
    with Client(private.address) as client:
        session = client.open_session(cluster.session_id)
        session.wait(future.key, timeout=30)
        assert session.status(future.task_id) == {future.task_id: TaskStatus.COMPLETED}
        (row,) = client.list_sessions(f"id={cluster.session_id}")
        assert row.status is SessionStatus.CLOSED


def test_tasks_are_cancelled_when_the_block_fails(private: PrivateCluster, tmp_path: Path) -> None:
    def fails() -> None:
        with ripieno.connect(private.address) as cluster:
            clusters.append(cluster)
            cluster.submit(work.wait_for, str(tmp_path / "never"))
            raise KeyboardInterrupt

    clusters: list[ripieno.Cluster] = []
    with pytest.raises(KeyboardInterrupt):
        fails()
    with Client(private.address) as client:
        (row,) = client.list_sessions(f"id={clusters[0].session_id}")
        assert row.status is SessionStatus.CANCELLED


@pytest.mark.parametrize("cancel", [False, True])
def test_a_session_that_somebody_else_has_ended_is_left_in_peace(private: PrivateCluster, cancel: bool) -> None:
    with Client(private.address) as client:
        for end in ("cancel", "delete"):
            cluster = ripieno.connect(private.address)
            getattr(client.open_session(cluster.session_id), end)()
            cluster.close(cancel=cancel)


def test_a_session_with_a_name_is_joined_again(private: PrivateCluster) -> None:
    name = f"joined-{os.getpid()}"
    with ripieno.connect(private.address, session=name) as cluster:
        assert cluster.submit(work.square, 2, unique_key="a").result(30) == 4
    with ripieno.connect(private.address, session=name) as cluster:
        assert cluster.submit(work.process_id, unique_key="a").result(30) == 4


def test_a_fork_between_two_submissions_disturbs_none(cluster: ripieno.Cluster) -> None:
    for number in range(2):
        assert cluster.submit(work.square, number).result(30) == number * number
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        futures = cluster.map(work.square, range(9_000), chunk=1)
        failed = cluster.submit(work.fail, "told")
        assert cluster.gather(futures)[-1] == 8_999 * 8_999
        with pytest.raises(LookupError, match="told"):
            failed.result(30)


async def test_a_cluster_is_left_without_keeping_the_loop(private: PrivateCluster) -> None:
    async with ripieno.connect(private.address) as cluster:
        assert await cluster.submit(work.square, 3) == 9


def test_what_does_not_go_together() -> None:
    with pytest.raises(TypeError, match="slots"):
        ripieno.connect("127.0.0.1:1", slots=2)


def test_importing_is_quick_and_light() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, ripieno; print(*sorted(sys.modules))"], capture_output=True, text=True
    )
    loaded = set(seen.stdout.split())
    assert not loaded & {"grpc", "google.protobuf", "cloudpickle", "click", "rich", "asyncio"}
    assert set(ripieno.__all__) == set(ripieno._HOMES) and all(getattr(ripieno, name) for name in ripieno.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ripieno.nothing  # noqa: B018
