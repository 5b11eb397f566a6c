"""A worker made of nothing but the stubs of ``Worker``: counts words.

    python worker.py [ADDRESS]        default: $RIPIENO_WORKER_ADDRESS

The first line of a payload says what to do: ``count`` the words of the text that follows,
``split`` it among sub-tasks that count and one that adds up and takes over this task's
result, or ``add`` up what the data dependencies hold. A result is a JSON object of words
and their numbers. The other side is ``client.py``.
"""

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2, worker_service_pb2_grpc
from ripieno.wire.protos.armonik_v2.worker_service_pb2 import ProcessReply, ProcessRequest

# ruff: noqa: N802 - the protocol's names

PART_BYTES = 50_000

Requests = Iterator[ProcessRequest]
Replies = Iterator[ProcessReply]
Chunk = objects_pb2.DataChunk


class TaskFailedError(Exception):
    """The task cannot be done, and trying again would not help."""


@dataclass
class Task:
    """What the agent sends before anything else."""

    id: str
    chunk_bytes: int
    expected_output_keys: list[str]
    payload: bytes
    data: dict[str, bytes] = field(default_factory=dict)


def receive(requests: Requests) -> Task:
    """Read init_request, the rest of the payload, and each data dependency."""
    init = next(requests).compute.init_request
    payload = bytearray(init.payload.data)
    for chunk in _until_complete(request.compute.payload for request in requests):
        payload += chunk
    task = Task(init.task_id, init.configuration.data_chunk_max_size, list(init.expected_output_keys), bytes(payload))
    while (datum := next(requests).compute.init_data).WhichOneof("type") == "key":
        task.data[datum.key] = b"".join(_until_complete(request.compute.data for request in requests))
    return task  # The last one said last_data.


def _until_complete(chunks: Iterator[Chunk]) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk.WhichOneof("type") == "data_complete":
            return
        yield chunk.data


def result(task: Task, key: str, data: bytes) -> Replies:
    """One result. Every reply but Output carries an id of our choice; here, the key."""

    def reply(**part: Any) -> ProcessReply:
        return ProcessReply(request_id=key, result=ProcessReply.Result(**part))

    yield reply(init=objects_pb2.InitKeyedDataStream(key=key))
    for start in range(0, len(data), task.chunk_bytes):
        yield reply(data=Chunk(data=data[start : start + task.chunk_bytes]))
    yield reply(data=Chunk(data_complete=True))
    yield reply(init=objects_pb2.InitKeyedDataStream(last_result=True))


def small_task(task: objects_pb2.TaskRequest) -> Replies:
    """Ask for one sub-task with a payload of at most a chunk; an answer follows."""
    yield ProcessReply(request_id=task.id, create_small_task=ProcessReply.CreateSmallTaskRequest(task_requests=[task]))


def large_tasks(request_id: str, payloads: dict[str, bytes], chunk_bytes: int) -> Replies:
    """Ask for sub-tasks with payloads of any size, each named after its result; one answer follows."""
    large = ProcessReply.CreateLargeTaskRequest

    def reply(**part: Any) -> ProcessReply:
        return ProcessReply(request_id=request_id, create_large_task=large(**part))

    yield reply(init_request=large.InitRequest())  # No options: those of the session.
    for key, payload in payloads.items():
        header = objects_pb2.TaskRequestHeader(id=key, expected_output_keys=[key])
        yield reply(init_task=objects_pb2.InitTaskRequest(header=header))
        for start in range(0, len(payload), chunk_bytes):
            yield reply(task_payload=Chunk(data=payload[start : start + chunk_bytes]))
        yield reply(task_payload=Chunk(data_complete=True))
    yield reply(init_task=objects_pb2.InitTaskRequest(last_task=True))


def expect_accepted(requests: Requests) -> None:
    """Read the answer to a batch of sub-tasks, which exist once this attempt has ended well."""
    reply = next(requests).create_task.reply
    if reply.WhichOneof("Data") == "non_successfull_ids":
        raise RuntimeError(f"sub-tasks refused: {', '.join(reply.non_successfull_ids.ids)}")


def count(task: Task, text: bytes, requests: Requests) -> Replies:
    """Count the words of a text."""
    try:
        words = Counter(re.findall(r"\w+", text.decode().lower()))
    except UnicodeDecodeError as error:
        raise TaskFailedError(f"the payload is not text: {error.reason} at byte {error.start}") from error
    yield from result(task, task.expected_output_keys[0], json.dumps(words).encode())


def split(task: Task, text: bytes, requests: Requests) -> Replies:
    """Leave parts of a text to sub-tasks, and our result to one that adds theirs up."""
    lines, parts = text.splitlines(keepends=True), [b""]
    for line in lines:
        if parts[-1] and len(parts[-1]) + len(line) > PART_BYTES:
            parts.append(b"")
        parts[-1] += line
    # An attempt's id is new for each attempt, so these ids are, too.
    payloads = {f"{task.id} part {number}": b"count\n" + part for number, part in enumerate(parts)}
    yield from large_tasks("parts", payloads, task.chunk_bytes)
    expect_accepted(requests)
    yield from small_task(
        objects_pb2.TaskRequest(
            id=f"{task.id} sum",
            expected_output_keys=task.expected_output_keys,  # Ours: they pass to the sub-task.
            data_dependencies=list(payloads),
            payload=b"add\n",
        )
    )
    expect_accepted(requests)


def add(task: Task, text: bytes, requests: Requests) -> Replies:
    """Add up the results that the task depends on."""
    total = Counter[str]()
    for words in task.data.values():
        total.update(json.loads(words))
    yield from result(task, task.expected_output_keys[0], json.dumps(total).encode())


STEPS = {b"count": count, b"split": split, b"add": add}


class Worker(worker_service_pb2_grpc.WorkerServicer):
    """Runs one attempt a call; the agent makes one call at a time."""

    def Process(self, request_iterator: Requests, context: grpc.ServicerContext) -> Replies:
        """One attempt. An exception ends the call with an error status: the attempt failed and may be repeated."""
        task = receive(request_iterator)
        step, _, text = task.payload.partition(b"\n")
        try:
            if step not in STEPS:
                raise TaskFailedError(f"there is no step {step!r}")
            yield from STEPS[step](task, text, request_iterator)
        except TaskFailedError as failure:
            # Output must be the last message, and is final: the task is not tried again.
            error = objects_pb2.Output.Error(details=str(failure))
            yield ProcessReply(output=objects_pb2.Output(error=error))
        else:
            yield ProcessReply(output=objects_pb2.Output(ok=objects_pb2.Empty()))

    def HealthCheck(
        self, request: objects_pb2.Empty, context: grpc.ServicerContext
    ) -> worker_service_pb2.HealthCheckReply:
        """Asked before the first attempt and while idle; a worker that does not serve gets none."""
        return worker_service_pb2.HealthCheckReply(status=worker_service_pb2.HealthCheckReply.SERVING)


def main() -> int:
    """Serve until SIGTERM or SIGINT; what runs then may end."""
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("RIPIENO_WORKER_ADDRESS")
    if not address:
        print("usage: worker.py ADDRESS (unix:/path or HOST:PORT), or set RIPIENO_WORKER_ADDRESS", file=sys.stderr)
        return 2
    # More than one thread: HealthCheck is answered while an attempt runs.
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    worker_service_pb2_grpc.add_WorkerServicer_to_server(Worker(), server)
    server.add_insecure_port(address)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop(grace=30))
    server.start()
    print(f"worker ready on {address}", flush=True)
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main())
