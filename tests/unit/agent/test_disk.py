"""An agent whose directory on the disk is gone, full, or takes no files: no attempt is used up, and all goes on after it."""

import asyncio
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ripieno.agent.attempts import opening
from ripieno.agent.attempts.attempt import Attempt
from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.data import disk
from ripieno.agent.data.inputs import Inputs
from ripieno.agent.scheduling import faults
from ripieno.agent.workers import batch_lane, exchange
from ripieno.background import Health
from ripieno.wire.protos.v1 import batch_worker_pb2
from unit.agent.conftest import Serve
from unit.agent.replica import Replica, Task
from unit.agent.running import TOY, agent
from unit.agent.test_lanes import both_lanes
from unit.agent.test_objects import until
from unit.worker.processes import worker_process

MIB = 1 << 20
LARGE = bytes(range(256)) * 1_000


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOOK_S", 0.1)
    monkeypatch.setattr(faults, "_told", Health())  # what was told a moment ago is not told again


@pytest.fixture
def objects(replica: Replica) -> None:
    replica.objects = {"large": LARGE, "other": LARGE[::-1]}
    replica.results = {"dep": "other"}


def the_only(directory: Path) -> Path:
    (found,) = directory.iterdir()
    return found


def large(task_id: str) -> Task:
    return Task(task_id, payload="large", dependencies=("dep",))


async def completes(replica: Replica, *tasks: Task) -> None:
    replica.submit(*tasks)
    for task in tasks:
        outcome = await replica.outcome_of(task.id)
        assert outcome.HasField("completed"), outcome.failed.detail


@pytest.mark.usefixtures("objects")
@both_lanes
@pytest.mark.parametrize("taken", ["files", "directory"])
async def test_what_a_cleaner_took_is_read_again(
    replica: Replica, serve: Serve, tmp_path: Path, batch: bool, taken: str
) -> None:
    _, address = await serve(batch=batch)
    async with agent(replica, attach=(address,), scratch=tmp_path):
        await completes(replica, large("first"))
        here = the_only(tmp_path)
        if taken == "directory":
            shutil.rmtree(here)
        else:
            for path in here.iterdir():
                path.unlink()
        await completes(replica, large("second"), large("third"))
        assert replica.reads.count("other") == 2, "once before, once after"
    assert all(len(outcomes) == 1 for outcomes in replica.outcomes.values())


@pytest.mark.usefixtures("objects")
async def test_a_file_that_was_cut_is_read_again(replica: Replica, serve: Serve, tmp_path: Path) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,), scratch=tmp_path):
        replica.submit(Task("hold", payload=b"nap:0.5"), Task("first", dependencies=("dep",), payload=b"data"))
        await replica.until(lambda: "other" in replica.reads)
        await replica.outcome_of("first")
        for path in the_only(tmp_path).glob("object-*"):
            path.write_bytes(b"cut")
        replica.submit(Task("second", dependencies=("dep",), payload=b"data"))
        outcome = await replica.outcome_of("second")
    (result,) = outcome.completed.results
    assert result.data.object.size == len(LARGE)


async def test_a_worker_starts_anew_where_the_directory_was(replica: Replica, tmp_path: Path) -> None:
    async with agent(replica, worker=TOY + " batch", slots=1, scratch=tmp_path):
        await completes(replica, Task("first"))
        shutil.rmtree(the_only(tmp_path))
        replica.submit(Task("dies", payload=b"die"))
        assert (await replica.outcome_of("dies")).HasField("failed")
        await completes(replica, Task("second"))


@pytest.mark.usefixtures("objects")
async def test_no_work_is_taken_while_the_directory_takes_no_files(
    replica: Replica, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, address = await serve(batch=True)
    async with agent(replica, attach=(address,), scratch=tmp_path):
        await completes(replica, Task("first"))
        replica.submit(Task("runs", payload=b"nap:1"))
        await replica.until(lambda: "runs" in replica.started)
        here = the_only(tmp_path)
        shutil.rmtree(here)
        here.write_text("in its place")
        tasks = [large(f"t{number}") for number in range(20)]
        replica.submit(*tasks)
        await replica.until(lambda: replica.credit == 0)
        await replica.outcome_of("runs")
        assert replica.outcomes["runs"][0].HasField("completed"), "what runs goes on"
        await until(lambda: "takes no files" in caplog.text)
        given, told = len(replica.assigned), len(caplog.records)
        await asyncio.sleep(1.0)  # what is tested is that nothing happens
        assert (len(replica.assigned), len(caplog.records)) == (given, told), "neither work nor words"
        assert not any(task.id in replica.outcomes for task in tasks)
        here.unlink()
        for task in tasks:
            assert (await replica.outcome_of(task.id)).HasField("completed")
    assert all(len(outcomes) == 1 for outcomes in replica.outcomes.values())
    ours = [record.message for record in caplog.records if "scratch" in record.message]
    assert ["does not work" in message for message in ours] == [True, False], ours
    assert "works again" in ours[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_uses_up_no_attempt(
    replica: Replica, serve: Serve, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Full for everybody: nothing is taken until there is room."""
    _, address = await serve(batch=True)
    replica.objects = {"large": bytes(MIB)}
    async with agent(replica, attach=(address,), scratch=small_disk):
        await completes(replica, Task("first"))
        filling = small_disk / "filling"
        with pytest.raises(OSError, match="space"):
            filling.write_bytes(bytes(3 * MIB))
        await until(lambda: "takes no files" in caplog.text)
        replica.submit(*[Task(f"t{number}", payload="large") for number in range(20)])
        await asyncio.sleep(0.5)  # what is tested is that nothing happens
        assert set(replica.outcomes) == {"first"}
        filling.unlink()
        for number in range(20):
            assert (await replica.outcome_of(f"t{number}")).HasField("completed")


async def test_one_that_has_no_room_does_not_keep_others_from_running(
    replica: Replica, serve: Serve, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, address = await serve(batch=False)
    replica.objects = {"large": bytes(MIB + MIB // 2), "larger than the disk": bytes(3 * MIB)}
    async with agent(replica, attach=(address,), scratch=small_disk):
        await completes(replica, Task("first"))
        filling = small_disk / "filling"
        filling.write_bytes(bytes(MIB))
        replica.submit(Task("waits", payload="large"), Task("never", payload="larger than the disk"), Task("small"))
        outcome = await replica.outcome_of("small")
        assert outcome.HasField("completed")
        outcome = await replica.outcome_of("never")
        assert "more than the disk" in outcome.failed.detail
        await replica.until(lambda: "waits" in replica.released)
        filling.unlink()
        assert (await replica.outcome_of("waits")).HasField("completed")
    assert "takes no files" not in caplog.text


@both_lanes
async def test_an_error_of_one_attempt_ends_that_attempt(
    replica: Replica, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, batch: bool
) -> None:
    """Whatever it is, and wherever it is met: its task fails with the reason, and the others run."""
    _, address = await serve(batch=batch)
    replica.objects, replica.results = {"large": LARGE}, {"key": "large"}
    spoil = {"carry_out", "read", "_spool_all"}

    def broken(name: str) -> None:
        owner = exchange.Exchange if name == "carry_out" else Inputs
        former = getattr(owner, name)

        async def raises(*arguments: object, **named: object) -> object:
            if name in spoil:
                raise KeyError(f"bug in {name}")
            return await former(*arguments, **named)

        monkeypatch.setattr(owner, name, raises)

    for name in spoil:
        broken(name)
    async with agent(replica, attach=(address,)):
        replica.submit(Task("creates", payload=b"create:sub"), Task("spools", payload="large"), Task("works"))
        for task_id, place in (("creates", "carry_out"), ("spools", "_spool_all")):
            outcome = await replica.outcome_of(task_id)
            assert f"bug in {place}" in outcome.failed.detail
        spoil.remove("carry_out")
        replica.submit(Task("asks", payload=b"resource:key"))
        assert "bug in read" in (await replica.outcome_of("asks")).failed.detail
        spoil.clear()
        await completes(replica, Task("creates 2", payload=b"create:sub"), Task("asks 2", payload=b"resource:key"))
        await completes(replica, Task("spools 2", payload="large"))
        assert (await replica.outcome_of("works")).HasField("completed")
    told = [record for record in caplog.records if record.levelno == logging.ERROR and "ripieno" in record.name]
    assert len(told) == 3


async def test_a_file_that_goes_before_its_worker_opens_it_uses_up_no_attempt(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica.objects, replica.results = {"large": LARGE}, {"d": b"data"}
    former, taken = opening.items_with_files, list[Attempt]()

    def cleaned(attempt: Attempt, limits: Limits) -> Iterator[batch_worker_pb2.BatchRequest.Item]:
        if not taken:
            assert attempt.spooled_payload is not None
            attempt.spooled_payload.path.unlink()
            taken.append(attempt)
        return former(attempt, limits)

    monkeypatch.setattr(batch_lane, "items_with_files", cleaned)
    with worker_process("scenarios:handle") as worker:
        async with agent(replica, attach=(worker.address,)):
            await completes(replica, Task("first", payload=b"x", options={"do": "echo"}))
            replica.submit(Task("t", payload="large", dependencies=("d",), options={"do": "digest"}))
            outcome = await replica.outcome_of("t")
            assert outcome.HasField("completed"), outcome.failed.detail
    assert taken and replica.released == ["t"] and len(replica.outcomes["t"]) == 1
    assert "No such file" in caplog.text
