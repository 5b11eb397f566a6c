"""A process of its own that sends calls of 30 MiB: what building and sending them takes is not the load's time.

``python -m soak.large_calls ADDRESS SESSION`` prints a line when its calls are ready, and sends them once it
reads one.
"""

import asyncio
import sys

import grpc
import grpc.aio

from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2

_METHOD = "/ArmoniK.api.grpc.v1.Submitter/CreateSmallTasks"
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
_AT_ONCE = 8
_ROUNDS = 3
_LIMIT_S = 120


def _message(session_id: str, number: int) -> bytes:
    message = submitter_service_pb2.CreateSmallTaskRequest(session_id=session_id)
    for place in range(390):
        key = f"{session_id}/{number}/{place}"
        message.task_requests.append(objects_pb2.TaskRequest(id=key, expected_output_keys=[key], payload=bytes(80_000)))
    return message.SerializeToString()


async def _send(address: str, message: bytes) -> None:
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
        try:
            await call(message, timeout=_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise


async def main(address: str, session_id: str) -> None:
    """Send all of them, eight callers at a time."""
    messages = [_message(session_id, number) for number in range(_AT_ONCE)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(_ROUNDS):
        await asyncio.gather(*(_send(address, message) for message in messages))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
