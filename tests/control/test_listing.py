"""Long lists are built one at a time, give back their room, and refuse whoever waits too long."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

import ripieno.control.calls.admission as admission
import ripieno.control.calls.questions as questions
import ripieno.control.results.listing as listing
import ripieno.store.reading.lookup as lookup
from control.replica import Served, until
from ripieno.control.calls.arrivals import Turns
from ripieno.wire.protos.armonik_v2 import submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2, results_pb2_grpc
from store.world import World, task

_Filter = submitter_service_pb2.TaskFilter
_ALL = _Filter(session=_Filter.IdsRequest(ids=["s"]))


async def test_long_lists_come_whole_and_leave_nothing_behind(
    served: Served, channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_PAGE", 3)
    ids = [f"t{place:02}" for place in range(20)]
    await world.submit(*(task(each) for each in ids))
    stub, listings = submitter_service_pb2_grpc.SubmitterStub(channel), served.replica._submitter._listings
    listings._unread = Turns(150)
    replies = await asyncio.gather(*(stub.ListTasks(_ALL) for _ in range(20)))
    assert all(list(reply.task_ids) == ids for reply in replies)
    await until(lambda: listings._unread.free == listings._unread.size)
    assert listings._building.free == 1
    pages = [list(page.task_ids) async for page in results_pb2_grpc.ResultsStub(channel).ListTaskIds(
        results_pb2.ListTaskIdsRequest(session_id="s"))]  # fmt: skip
    assert pages == [ids]


async def test_whoever_waits_too_long_for_others_is_refused(
    served: Served, channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_PAGE", 3)
    monkeypatch.setattr(listing, "_PATIENCE_S", 0.05)
    await world.submit(*(task(f"t{place}") for place in range(10)))
    stub, listings = submitter_service_pb2_grpc.SubmitterStub(channel), served.replica._submitter._listings
    for room in (listings._building, listings._unread):
        held = room.size
        assert await room.take(held, 1.0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListTasks(_ALL)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "ListTaskIds" in str(refused.value.details())
        room.give_back(held)
    assert len((await stub.ListTasks(_ALL)).task_ids) == 10


@pytest.mark.parametrize("longest", [64 * 1024, 30], ids=["parsed", "as bytes"])
async def test_questions_about_many_have_their_turn(
    served: Served, channel: grpc.aio.Channel, world: World, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(admission, "_LONG_QUESTION_BYTES", longest)
    monkeypatch.setattr(questions, "MANY_IDS", 5)
    monkeypatch.setattr(questions, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(lookup, "_NAMES_AT_ONCE", 3)
    ids = [f"t{place}" for place in range(10)]
    await world.submit(*(task(each, f"k{each}") for each in ids))
    stub, turns = submitter_service_pb2_grpc.SubmitterStub(channel), served.replica._admission._questions._turns
    statuses = submitter_service_pb2.GetTaskStatusRequest(task_ids=[*ids, "none", "t3###1"])
    keys = submitter_service_pb2.GetResultStatusRequest(session_id="s", result_ids=[f"k{each}" for each in ids])
    counted = _Filter(task=_Filter.IdsRequest(ids=ids))

    assert [each.task_id for each in (await stub.GetTaskStatus(statuses)).id_statuses] == [*ids, "t3###1"]
    assert [each.result_id for each in (await stub.GetResultStatus(keys)).id_statuses] == list(keys.result_ids)
    assert [each.count for each in (await stub.CountTasks(counted)).values] == [10]
    assert list((await stub.ListTasks(counted)).task_ids) == ids
    assert turns.free == turns.size

    assert await turns.take(turns.size, 1.0)
    for question in (
        stub.CountTasks(counted),
        stub.WaitForCompletion(submitter_service_pb2.WaitRequest(filter=counted)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await question
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    few = submitter_service_pb2.GetTaskStatusRequest(task_ids=ids[:5])
    assert len((await stub.GetTaskStatus(few)).id_statuses) == 5
    turns.give_back(turns.size)
    assert [each.count for each in (await stub.CountTasks(counted)).values] == [10]


async def test_a_long_question_that_is_none_is_refused_as_such(channel: grpc.aio.Channel) -> None:
    """A request of more than 64 KiB is parsed when its turn has come, later than others."""
    count = submitter_service_pb2.DESCRIPTOR.services_by_name["Submitter"].methods_by_name["CountTasks"]
    call: Any = channel.unary_unary(f"/{count.containing_service.full_name}/{count.name}")
    for size in (100, admission._LONG_QUESTION_BYTES + 1):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff" * size)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "not a valid message of its type" in (refused.value.details() or "")
