"""The lanes told apart, and compared as wholes: the same mixed work on each comes to the same end."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from agreement.scripts import Step, sub_task, task
from agreement.stage import LANES, Seen, Stage, unique
from protocol.cluster import running
from ripieno.client import TaskDefinition, TaskStatus
from ripieno.wire.protos.armonik_v2.objects_pb2 import Empty
from ripieno.wire.protos.armonik_v2.worker_service_pb2 import HealthCheckReply
from ripieno.wire.protos.armonik_v2.worker_service_pb2_grpc import WorkerStub
from ripieno.wire.protos.v1.batch_worker_pb2 import BatchReply, BatchRequest

_CALL_S = 10.0
SIZE = 150


@pytest.mark.parametrize("single", [False, True])
async def test_a_single_worker_serves_no_batches(single: bool) -> None:
    directory = Path(tempfile.mkdtemp(prefix="rp-single-"))
    address = f"unix:{directory}/w"
    flags = ["--single"] if single else []
    try:
        async with (
            running("worker", "--address", address, *flags, "agreement.handlers:handle"),
            grpc.aio.insecure_channel(address) as channel,
        ):
            assert (await WorkerStub(channel).HealthCheck(Empty(), timeout=_CALL_S)).status == HealthCheckReply.SERVING
            batches: grpc.aio.StreamStreamMultiCallable[BatchRequest, BatchReply] = channel.stream_stream(
                "/ripieno.v1.BatchWorker/Process",
                request_serializer=BatchRequest.SerializeToString,
                response_deserializer=BatchReply.FromString,
            )
            call = batches(timeout=_CALL_S)
            await call.done_writing()
            assert await call.code() is (grpc.StatusCode.UNIMPLEMENTED if single else grpc.StatusCode.OK)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def mixed_work(stem: str, generator: random.Random) -> Iterator[TaskDefinition]:
    """A random forest in which each kind of end is frequent, and each that goes on down the branches.

    No task needs two results: were both aborted, the one that is aborted first would be told.
    """
    names: list[str] = []
    for number in range(SIZE):
        name = f"{stem} {number}"
        needs = generator.sample(names[-20:], min(len(names), generator.randrange(2)))
        yield task(name, *_steps(name, generator), needs=needs)
        names.append(name)


def _steps(name: str, generator: random.Random) -> list[Step]:
    text = f"{generator.random()}"
    child = sub_task(f"{name} child", ["fail", "the child", generator.randrange(3)], ["give", text], keys=[name])
    kinds: list[tuple[int, list[Step]]] = [
        (8, [["give", text]]),
        (2, [["send_pattern", name, generator.randrange(200_000)]]),
        (2, [["fail", text, generator.randrange(4)], ["give", text]]),
        (1, [["error", text]]),
        (1, [["send", name, text], ["error", text]]),
        (1, [["send", name, text], ["send", name, text]]),
        (1, [["fetch", [["resource", "unknown"]]]]),
        (2, [["submit", [child]]]),
        (1, [["submit", [child]], ["error", text]]),
        (1, [["fail", text, generator.randrange(3)], ["submit", [child]]]),
    ]
    [steps] = generator.choices([steps for _, steps in kinds], weights=[weight for weight, _ in kinds])
    return steps


async def _ends(stage: Stage, stem: str, seed: int) -> dict[str, Seen]:
    """How each task of the mixed work ended, sub-tasks too, without what differs by the handler's kind."""
    session = await stage.session(max_retries=2)
    handles = await session.submit_many(mixed_work(stem, random.Random(seed)))
    seen = await stage.all_seen(handles)
    await session.wait(timeout=30)
    ends = {handle.id: each for handle, each in zip(handles, seen, strict=True)}
    children = {name: status for name, status in (await session.status()).items() if name not in ends}
    ends |= {name: Seen(status) for name, status in children.items()}
    return {name.removeprefix(stem): _alike(end, stem) for name, end in ends.items()}


def _alike(seen: Seen, stem: str) -> Seen:
    """Tracebacks through different handlers have only their last line in common."""
    told = (detail if "Traceback" not in detail else detail.splitlines()[-1] for _, detail in seen.attempts)
    attempts = zip((status for status, _ in seen.attempts), told, strict=True)
    return Seen(
        seen.status,
        seen.data,
        seen.owner.removeprefix(stem),
        tuple((status, detail.replace(stem, "")) for status, detail in attempts),
    )


async def test_mixed_work_ends_alike_on_all_lanes(stages: list[Stage]) -> None:
    seed = random.randrange(2**32)
    stems = [unique(f"mixed {lane.name}") for lane in LANES]

    first, *others = await asyncio.gather(
        *(_ends(stage, stem, seed) for stage, stem in zip(stages, stems, strict=True))
    )

    for lane, ends in zip(LANES[1:], others, strict=True):
        different = {
            name: (first.get(name), ends.get(name)) for name in first | ends if first.get(name) != ends.get(name)
        }
        assert different == {}, f"{LANES[0].name} and {lane.name} disagree (seed {seed})"
    found = {end.status for end in first.values()}
    assert found == {TaskStatus.COMPLETED, TaskStatus.ERROR}


@pytest.mark.parametrize("length", [0, 1_000, 20_000])
async def test_a_traceback_is_told_alike(stages: list[Stage], length: int) -> None:
    told = []
    for stage in stages:
        session, text = await stage.session(), "ü" * length
        seen = await stage.seen(await session.submit(task(unique("traceback"), ["fail", text, 1])))
        [(_, detail)] = seen.attempts
        told.append(detail)

    # Percent-encoded, a status has less room for it than a message: a long one loses more of its middle.
    for batch, single in ((told[0], told[1]), (told[2], told[3])):
        if length < 1_000:
            assert batch == single
        ends = [(detail[:100], detail[-500:]) for detail in (batch, single)]
        assert ends[0] == ends[1]
        assert batch.startswith("Traceback (most recent call last):\n") and batch.endswith(" 0")


async def test_each_worker_has_prepared_itself_once_before_its_first_task(stage: Stage) -> None:
    session = await stage.session()
    handles = await session.submit_many([task(unique("prepared"), ["prepared"]) for _ in range(8)])
    told = {(await handle.result(timeout=60)).decode().partition(": ")[2] for handle in handles}
    assert told == {"1 of 1"}
