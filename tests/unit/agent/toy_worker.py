"""A worker that does what its payload says; both lanes, without our SDK.

As a program: ``python toy_worker.py [batch] [silent]``, at RIPIENO_WORKER_ADDRESS.
"""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2, worker_service_pb2_grpc
from ripieno.wire.protos.v1 import agent_pb2, batch_worker_pb2, batch_worker_pb2_grpc

ProcessRequest = worker_service_pb2.ProcessRequest
ProcessReply = worker_service_pb2.ProcessReply
Status = worker_service_pb2.HealthCheckReply
BatchReply = batch_worker_pb2.BatchReply

Receive = Callable[[], Awaitable[ProcessRequest]]
Send = Callable[[ProcessReply], Awaitable[None]]
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]


class CallFailed(Exception):  # noqa: N818 - what the handler wants, not an error of ours
    """The handler wants the call to fail."""


@dataclass
class Compute:
    """One attempt as it arrived; ``order`` is what came, in words."""

    init: ProcessRequest.ComputeRequest.InitRequest = field(default_factory=ProcessRequest.ComputeRequest.InitRequest)
    payload: bytes = b""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    data: dict[str, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)


async def receive_compute(receive: Receive, order: list[str], keep_bytes: int = 1 << 20) -> Compute:
    """Read an opening to its end; of large data only the digest is kept."""
    compute, key = Compute(order=order), ""
    while True:
        message = (await receive()).compute
        kind = message.WhichOneof("type")
        if kind == "init_request":
            compute.init = message.init_request
            compute.payload = message.init_request.payload.data
            compute.digest.update(compute.payload)
            order.append(f"init_request {len(compute.payload)}")
        elif kind == "payload":
            chunk = message.payload
            order.append(f"payload {len(chunk.data)}" if chunk.WhichOneof("type") == "data" else "payload complete")
            compute.digest.update(chunk.data)
            if len(compute.payload) < keep_bytes:
                compute.payload += chunk.data
        elif kind == "data":
            chunk = message.data
            order.append(f"data {len(chunk.data)}" if chunk.WhichOneof("type") == "data" else "data complete")
            compute.digest.update(chunk.data)
            if len(compute.data[key]) < keep_bytes:
                compute.data[key] += chunk.data
        elif message.init_data.last_data:
            order.append("last_data")
            return compute
        else:
            key = message.init_data.key
            compute.data[key] = b""
            order.append(f"key {key}")


def result(key: str, *chunks: bytes) -> list[ProcessReply]:
    results = [
        ProcessReply.Result(init=objects_pb2.InitKeyedDataStream(key=key)),
        *[ProcessReply.Result(data=objects_pb2.DataChunk(data=chunk)) for chunk in chunks],
        ProcessReply.Result(data=objects_pb2.DataChunk(data_complete=True)),
        ProcessReply.Result(init=objects_pb2.InitKeyedDataStream(last_result=True)),
    ]
    return [ProcessReply(request_id="r", result=result) for result in results]


OK = ProcessReply(output=objects_pb2.Output(ok=objects_pb2.Empty()))


async def handle(compute: Compute, receive: Receive, send: Send) -> None:
    """Do what the payload says: a word, or ``word:argument``."""
    word, _, argument = compute.payload[:200].decode(errors="replace").partition(":")
    out = compute.init.expected_output_keys[0]
    if word == "die":
        os._exit(3)
    if word in ("fail", "unavailable"):
        raise CallFailed(argument)
    if word == "nap":
        await asyncio.sleep(float(argument))
    if word == "stuck":
        await _ignore_cancellation(float(argument))
    if word == "hog":
        time.sleep(float(argument))  # noqa: ASYNC251 - a handler that stops its whole process is the point
    if word == "error":
        await send(ProcessReply(output=objects_pb2.Output(error=objects_pb2.Output.Error(details=argument))))
        return
    if word == "foreign":
        await send(result("foreign", b"x")[0])
        await asyncio.sleep(30)
    if word == "many":
        many = ProcessReply.CreateSmallTaskRequest()
        for number in range(int(argument)):
            many.task_requests.add(id=f"child {number}", expected_output_keys=[f"of child {number}"])
        await send(ProcessReply(request_id="many", create_small_task=many))
        await receive()
    if word == "mute":
        return
    value = compute.payload
    if word == "pid":
        value = str(os.getpid()).encode()
    if word == "digest" or len(compute.payload) > 200:
        value = compute.digest.digest()
    if word == "data":
        value = b"".join(compute.data.values())
    if word in ("resource", "common_data", "direct_data"):
        value = await _ask(word, argument, receive, send)
    longest = compute.init.configuration.data_chunk_max_size
    chunks = [value[start : start + longest] for start in range(0, len(value), longest)] or [b""]
    if word == "create":
        request = ProcessReply.CreateSmallTaskRequest()
        request.task_requests.add(id=argument, expected_output_keys=[argument])
        await send(ProcessReply(request_id="create", create_small_task=request))
        await receive()
    if word == "big":
        chunks = [bytes(84_000)] * (int(argument) // 84_000)
    for reply in result(out, *chunks):
        await send(reply)
    await send(OK)


def _value(said: str) -> bytes | None:
    """What ``said`` stands for: a text, or ``text*times``; None for none."""
    text, _, times = said.partition("*")
    return text.encode() * int(times or 1) or None


async def _ignore_cancellation(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(left)


async def _ask(kind: str, key: str, receive: Receive, send: Send) -> bytes:
    request = ProcessReply(request_id="ask")
    getattr(request, kind).key = key
    await send(request)
    value: bytes = b""
    while True:
        answer = getattr(await receive(), kind)
        assert answer.reply_id == "ask"
        if answer.WhichOneof("type") == "init":
            if answer.init.WhichOneof("has_result") == "error":
                return f"error: {answer.init.error}".encode()
            value += answer.init.data.data
        elif answer.data.data_complete:
            return bytes(value)
        else:
            value += answer.data.data


class ToyWorker(worker_service_pb2_grpc.WorkerServicer):
    """Serves ``Worker``; records what arrived, by attempt id."""

    def __init__(self) -> None:
        self.health = Status.SERVING
        self.orders: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.cancelled: list[str] = []
        self.calls = 0
        self.most_at_once = 0
        #: Calls of the batch lane, the agent's look at whether it is served included.
        self.streams = 0
        #: Where the agent said that large results may be written.
        self.offers: list[batch_worker_pb2.BatchRequest.Objects] = []

    async def HealthCheck(  # noqa: N802
        self, request: objects_pb2.Empty, context: grpc.aio.ServicerContext[Any, Any]
    ) -> worker_service_pb2.HealthCheckReply:
        return Status(status=self.health)

    async def Process(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[ProcessRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        order: list[str] = []
        self.calls += 1
        self.most_at_once = max(self.most_at_once, self.calls)
        compute = Compute()
        try:
            compute = await receive_compute(lambda: anext(request_iterator), order)
            self.ids.append(compute.init.task_id)
            self.orders[compute.init.task_id] = order
            await handle(compute, lambda: anext(request_iterator), context.write)
            if compute.payload == b"mute":
                return
            order.append("output sent")
            order.extend([f"late {message.WhichOneof('type')}" async for message in request_iterator])
            order.append("half-closed")
        except CallFailed as failed:
            unavailable = compute.payload.startswith(b"unavailable")
            code = grpc.StatusCode.UNAVAILABLE if unavailable else grpc.StatusCode.UNKNOWN
            await context.abort(code, str(failed))
        except asyncio.CancelledError:
            self.cancelled.append(compute.init.task_id)
            raise
        finally:
            self.calls -= 1


class ToyBatchWorker(batch_worker_pb2_grpc.BatchWorkerServicer):
    """Serves ``BatchWorker`` beside a ToyWorker, one attempt at a time."""

    def __init__(self, worker: ToyWorker) -> None:
        self.worker = worker

    async def Process(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: AsyncIterator[batch_worker_pb2.BatchRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self.worker.streams += 1
        mail: dict[int, asyncio.Queue[ProcessRequest]] = {}
        inbox: asyncio.Queue[int] = asyncio.Queue()
        writing = asyncio.Lock()
        running: list[tuple[int, asyncio.Task[None]]] = []

        async def tell(number: int, **what: object) -> None:
            async with writing:
                reply = BatchReply(items=[BatchReply.Item(attempt=number, **what)])  # type: ignore[arg-type]
                await asyncio.shield(context.write(reply))

        async def run_one(number: int) -> None:
            async def send(reply: ProcessReply) -> None:
                value = reply.output.error.details.partition(" with ")[2]
                await tell(number, replies=[reply], failure_value=_value(value))

            order: list[str] = []
            try:
                compute = await receive_compute(mail[number].get, order)
                self.worker.ids.append(compute.init.task_id)
                self.worker.orders[compute.init.task_id] = order
                if compute.payload.startswith(b"stored:"):
                    name = compute.payload.decode().partition(":")[2]
                    told = batch_worker_pb2.BatchReply.Stored(key=compute.init.expected_output_keys[0])
                    told.object.name = name
                    await tell(number, stored=[told])
                    await asyncio.sleep(30)
                if compute.payload.startswith(b"far:"):
                    fraction = float(compute.payload.partition(b":")[2])
                    await tell(number, progress=agent_pb2.Progress(fraction=fraction, text="so far"))
                    await asyncio.sleep(30)
                await handle(compute, mail[number].get, send)
            except CallFailed as failed:
                reason, _, value = str(failed).partition(" with ")
                await tell(number, failed=reason, failure_value=_value(value))
            except asyncio.CancelledError:
                await tell(number, failed="interrupted")
            finally:
                mail.pop(number, None)

        async def run() -> None:
            while True:
                number = await inbox.get()
                if number in mail:
                    task = asyncio.create_task(run_one(number))
                    running[:] = [(number, task)]
                    await task
                    running.clear()

        runner = asyncio.create_task(run())
        try:
            async for message in request_iterator:
                if message.HasField("objects"):
                    self.worker.offers.append(message.objects)
                for item in message.items:
                    number = item.attempt
                    if item.withdraw or item.cancel:
                        if running and running[0][0] == number:
                            if item.cancel:
                                running[0][1].cancel()
                        elif mail.pop(number, None) is not None:
                            await tell(number, withdrawn=True)
                        continue
                    if number not in mail:
                        mail[number] = asyncio.Queue()
                        inbox.put_nowait(number)
                    for request in item.requests:
                        mail[number].put_nowait(request)
        finally:
            runner.cancel()


async def start(worker: ToyWorker, address: str, *, batch: bool) -> grpc.aio.Server:
    """Serve at an address; ``HOST:0`` is not supported."""
    server = grpc.aio.server(options=OPTIONS)
    worker_service_pb2_grpc.add_WorkerServicer_to_server(worker, server)
    if batch:
        batch_worker_pb2_grpc.add_BatchWorkerServicer_to_server(ToyBatchWorker(worker), server)
    server.add_insecure_port(address)
    await server.start()
    return server


async def _main(arguments: list[str]) -> None:
    worker = ToyWorker()
    server = await start(worker, os.environ["RIPIENO_WORKER_ADDRESS"], batch="batch" in arguments)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
