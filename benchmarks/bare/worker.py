"""A worker that knows only the original protocol: ``python -m benchmarks.bare.worker ADDRESS``.

It serves ``Worker`` at the address, reads a task as part 3 of ``protocol.md`` says, and sends 100
bytes for each expected output.
"""

import asyncio
import signal
import sys
from typing import Any

import grpc.aio
import uvloop

from benchmarks.tasks import RESULT
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2_grpc
from ripieno.wire.protos.armonik_v2.worker_service_pb2 import HealthCheckReply, ProcessReply

Context = grpc.aio.ServicerContext[Any, Any]


class BareWorker(worker_service_pb2_grpc.WorkerServicer):
    """One task at a time."""

    async def HealthCheck(self, request: objects_pb2.Empty, context: Context) -> HealthCheckReply:  # noqa: N802
        """Always well."""
        return HealthCheckReply(status=HealthCheckReply.SERVING)

    # The stubs know generators only; reading and writing by the context is the other documented way.
    async def Process(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Read the task, send its results, say that it went well."""
        keys: list[str] = []
        while True:
            compute = (await context.read()).compute
            kind = compute.WhichOneof("type")
            if kind == "init_request":
                keys = list(compute.init_request.expected_output_keys)
            elif kind == "init_data" and compute.init_data.last_data:
                break
        for number, key in enumerate(keys):
            for reply in _result(f"r{number}", key):
                await context.write(reply)
        await context.write(ProcessReply(output=objects_pb2.Output(ok=objects_pb2.Empty())))


def _result(request_id: str, key: str) -> list[ProcessReply]:
    def reply(**what: Any) -> ProcessReply:
        return ProcessReply(request_id=request_id, result=ProcessReply.Result(**what))

    return [
        reply(init=objects_pb2.InitKeyedDataStream(key=key)),
        reply(data=objects_pb2.DataChunk(data=RESULT)),
        reply(data=objects_pb2.DataChunk(data_complete=True)),
        reply(init=objects_pb2.InitKeyedDataStream(last_result=True)),
    ]


async def serve(address: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server()
    worker_service_pb2_grpc.add_WorkerServicer_to_server(BareWorker(), server)
    server.add_insecure_port(address)
    await server.start()
    await stop.wait()
    await server.stop(grace=0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
