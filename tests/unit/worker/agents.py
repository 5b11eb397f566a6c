"""The agent's end of both services, made of stubs, with one face for both."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

import grpc
import grpc.aio

from ripieno.domain.data import ObjectDirectory, StoredObject
from ripieno.wire.outcomes import directory_to_wire, stored_from_wire
from ripieno.wire.protos.armonik_v2 import worker_service_pb2, worker_service_pb2_grpc
from ripieno.wire.protos.v1 import agent_pb2, batch_worker_pb2, batch_worker_pb2_grpc

ProcessRequest = worker_service_pb2.ProcessRequest
ProcessReply = worker_service_pb2.ProcessReply
BatchRequest = batch_worker_pb2.BatchRequest
Item = BatchRequest.Item


class Run(Protocol):
    """One attempt."""

    failed: str | None

    async def send(self, requests: Iterable[ProcessRequest]) -> None: ...

    async def next(self) -> ProcessReply | None:
        """The next reply; None once the attempt has ended without Output."""

    async def cancel(self) -> None: ...


class CallRun:
    """An attempt that is a call of Worker.Process."""

    def __init__(self, call: Any) -> None:
        self.failed: str | None = None
        self.code: grpc.StatusCode | None = None
        self._call = call

    async def send(self, requests: Iterable[ProcessRequest]) -> None:
        for request in requests:
            await self._call.write(request)

    async def next(self) -> ProcessReply | None:
        try:
            reply = await self._call.read()
        except grpc.aio.AioRpcError as error:
            self.failed, self.code = error.details(), error.code()
            return None
        if reply is grpc.aio.EOF:
            self.code = await self._call.code()
            return None
        assert isinstance(reply, ProcessReply)
        return reply

    async def half_close(self) -> None:
        await self._call.done_writing()

    async def cancel(self) -> None:
        self._call.cancel()


class BatchStream:
    """A call of BatchWorker.Process."""

    def __init__(self, call: Any) -> None:
        self.runs: dict[int, BatchRun] = {}
        self.messages = 0
        self.asks = 0
        self.reads_scratch = False
        self.places = 0
        self._call = call

    async def knows_places(self) -> None:
        """Say that it gives attempts to several places, and hear how many there are."""
        await self._call.write(BatchRequest(knows_places=True))
        assert await self.receive()

    async def begin(self, requests: Iterable[ProcessRequest], place: int = 0) -> "BatchRun":
        run = self.runs[len(self.runs) + 1] = BatchRun(self, len(self.runs) + 1, place)
        await run.send(requests)
        return run

    async def send(self, *items: Item) -> None:
        await self._call.write(BatchRequest(items=items))

    async def offer(self, directory: ObjectDirectory, larger_than_bytes: int) -> None:
        """Say where large results may be written."""
        objects = BatchRequest.Objects(directory=directory_to_wire(directory), larger_than_bytes=larger_than_bytes)
        await self._call.write(BatchRequest(objects=objects))

    async def show(self, scratch: ObjectDirectory) -> None:
        """Say where large data lies."""
        await self._call.write(BatchRequest(scratch=directory_to_wire(scratch)))

    async def name(self, *names: str) -> None:
        """Give names for large results, or say that there are none."""
        await self._call.write(BatchRequest(object_names=names, no_object=not names))

    async def asked(self, asks: int = 1) -> None:
        """Wait until the worker has asked so often for a name."""
        while self.asks < asks:
            assert await self.receive(), "the stream ended before the worker asked"

    async def receive(self) -> bool:
        """Take in one message; False at the end of the stream."""
        batch = await self._call.read()
        if batch is grpc.aio.EOF:
            return False
        self.messages += 1
        self.asks += batch.wants_object
        self.reads_scratch |= batch.reads_scratch
        self.places = batch.places or self.places
        for item in batch.items:
            run = self.runs[item.attempt]
            assert not run.ended, "nothing follows the end of an attempt"
            run.replies.extend(item.replies)
            run.stored.update({each.key: stored_from_wire(each.object) for each in item.stored})
            run.withdrawn = run.withdrawn or item.withdrawn
            run.progress += [item.progress] if item.HasField("progress") else []
            run.failure_value = item.failure_value if item.HasField("failure_value") else None
            run.failed = item.failed if item.HasField("failed") else None
            run.ended = run.withdrawn or run.failed is not None or any(r.HasField("output") for r in item.replies)
        return True

    async def half_close(self) -> None:
        await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()


class BatchRun:
    """An attempt on a batch stream."""

    def __init__(self, stream: BatchStream, number: int, place: int = 0) -> None:
        self.stream = stream
        self.number = number
        self.place = place
        self.replies: list[ProcessReply] = []
        self.stored: dict[str, StoredObject] = {}
        self.failed: str | None = None
        self.failure_value: bytes | None = None
        self.progress: list[agent_pb2.Progress] = []
        self.withdrawn = False
        self.ended = False

    async def send(self, requests: Iterable[ProcessRequest]) -> None:
        # A hundred to a message, as an agent does it: single messages stay small.
        pending = list(requests)
        for start in range(0, len(pending), 100):
            await self.stream.send(Item(attempt=self.number, place=self.place, requests=pending[start : start + 100]))

    async def next(self) -> ProcessReply | None:
        while not self.replies and not self.ended:
            assert await self.stream.receive(), "the stream ended before the attempt did"
        return self.replies.pop(0) if self.replies else None

    async def cancel(self) -> None:
        await self.stream.send(Item(attempt=self.number, cancel=True))

    async def withdraw(self) -> None:
        await self.stream.send(Item(attempt=self.number, withdraw=True))


class Agent:
    """Begins attempts in one of the two lanes."""

    def __init__(self, channel: grpc.aio.Channel, lane: str) -> None:
        self.worker: Any = worker_service_pb2_grpc.WorkerStub(channel)
        self._batch: Any = batch_worker_pb2_grpc.BatchWorkerStub(channel)
        self._lane = lane
        self._stream: BatchStream | None = None

    def batch_stream(self) -> BatchStream:
        return BatchStream(self._batch.Process())

    async def begin(self, requests: Iterable[ProcessRequest]) -> Run:
        if self._lane == "batch":
            self._stream = self._stream or self.batch_stream()
            return await self._stream.begin(requests)
        run = CallRun(self.worker.Process())
        await run.send(requests)
        return run


@contextlib.asynccontextmanager
async def agent_of(address: str, lane: str) -> AsyncIterator[Agent]:
    options = (("grpc.max_receive_message_length", -1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Agent(channel, lane)


async def rest_of(run: Run) -> list[ProcessReply]:
    """All that is still to come of an attempt."""
    replies: list[ProcessReply] = []
    while (reply := await run.next()) is not None:
        replies.append(reply)
        if reply.HasField("output"):
            break
    return replies


def results_of(replies: Iterable[ProcessReply]) -> dict[str, bytes]:
    """The results among the replies, each checked to come in the protocol's order."""
    keys: dict[str, str] = {}
    results: dict[str, bytes] = {}
    complete: set[str] = set()
    ended: set[str] = set()
    for reply in replies:
        if not reply.HasField("result"):
            continue
        request_id, result = reply.request_id, reply.result
        assert request_id
        if result.init.HasField("key"):
            assert request_id not in keys
            keys[request_id] = result.init.key
            results[result.init.key] = b""
        elif result.data.HasField("data"):
            assert request_id not in complete
            results[keys[request_id]] += result.data.data
        elif result.data.data_complete:
            complete.add(request_id)
        else:
            assert result.init.last_result and request_id in complete
            ended.add(request_id)
    assert ended == set(keys)
    return results
