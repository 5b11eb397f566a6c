"""Counts the words of some files on a cluster, with nothing but the stubs of ``Submitter``.

    python client.py [--address HOST:PORT] FILE ...

One task a file counts its words: a small file travels in CreateSmallTasks, a large one is
streamed with CreateLargeTasks, and its task splits the work among sub-tasks. One more task
depends on all of them and adds up. The words and their number are printed, or why there
are none. The other side is ``worker.py``.
"""

import argparse
import json
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc

from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.armonik_v2.task_status_pb2 import TaskStatus

WAIT_S = 60.0

#: A call that may be repeated is repeated by gRPC itself while no server answers. All may, but
#: CreateSession: if the first try did succeed, the second is told that the id is taken.
REPEATABLE = ("CreateSmallTasks", "WaitForAvailability", "WaitForCompletion", "CancelSession")
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "ArmoniK.api.grpc.v1.Submitter", "method": method} for method in REPEATABLE],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


class Job:
    """One session and what is asked of it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
        # The longest chunk, and the longest payload of a small task.
        self.chunk_bytes = self.submitter.GetServiceConfiguration(objects_pb2.Empty()).data_chunk_max_size
        self.session_id = str(uuid.uuid4())
        options = objects_pb2.TaskOptions(max_retries=2, priority=1)
        options.max_duration.seconds = 30
        reply = self.submitter.CreateSession(
            submitter_service_pb2.CreateSessionRequest(id=self.session_id, default_task_option=options)
        )
        if reply.WhichOneof("result") == "error":  # A duplicate id is no error of the call.
            raise SystemExit(reply.error)

    def submit_small(self, tasks: Iterable[objects_pb2.TaskRequest]) -> None:
        """All of them or none; durable when the reply is here. No options: those of the session."""
        request = submitter_service_pb2.CreateSmallTaskRequest(session_id=self.session_id, task_requests=tasks)
        self.submitter.CreateSmallTasks(request)

    def submit_large(self, task_id: str, key: str, step: bytes, file: Path) -> None:
        """The same for a payload of any size, which is read while it is sent."""
        self.submitter.CreateLargeTasks(self._stream(task_id, key, step, file))

    def _stream(
        self, task_id: str, key: str, step: bytes, file: Path
    ) -> Iterator[submitter_service_pb2.CreateLargeTaskRequest]:
        large = submitter_service_pb2.CreateLargeTaskRequest
        yield large(init_request=large.InitRequest(session_id=self.session_id))
        header = objects_pb2.TaskRequestHeader(id=task_id, expected_output_keys=[key])
        yield large(init_task=objects_pb2.InitTaskRequest(header=header))
        yield large(task_payload=objects_pb2.DataChunk(data=step))
        with file.open("rb") as payload:
            while chunk := payload.read(self.chunk_bytes):
                yield large(task_payload=objects_pb2.DataChunk(data=chunk))
        yield large(task_payload=objects_pb2.DataChunk(data_complete=True))
        yield large(init_task=objects_pb2.InitTaskRequest(last_task=True))  # It is answered now.

    def result(self, key: str) -> bytes:
        """Wait for a result and fetch it.

        Raises:
            RuntimeError: it will never exist, and why.
        """
        wanted = objects_pb2.ResultRequest(session=self.session_id, key=key)
        available = self.submitter.WaitForAvailability(wanted, timeout=WAIT_S)
        if available.WhichOneof("type") == "error":
            attempts = [f"{TaskStatus.Name(each.task_status)}: {each.detail}" for each in available.error.errors]
            raise RuntimeError(f"task {available.error.task_id!r} did not make it: {'; '.join(attempts)}")
        replies = self.submitter.TryGetResultStream(wanted)
        return b"".join(reply.result.data for reply in replies)  # The last one says data_complete and has no data.

    def counts(self) -> str:
        """Wait until all tasks are finished, the sub-tasks too, and say how many ended how."""
        request = submitter_service_pb2.WaitRequest()
        request.filter.session.ids.append(self.session_id)
        counts = self.submitter.WaitForCompletion(request, timeout=WAIT_S)
        return ", ".join(f"{each.count} {TaskStatus.Name(each.status)}" for each in counts.values)

    def cancel(self) -> None:
        """Nothing of the session starts any more; what is finished stays as it is."""
        self.submitter.CancelSession(submitter_service_pb2.Session(id=self.session_id))


def submit(job: Job, files: list[Path]) -> dict[str, Path]:
    """Submit the tasks; returns the file of each result key."""
    # Keys are per session, task ids are global.
    keys = {f"words of {number}": file for number, file in enumerate(files)}
    total = objects_pb2.TaskRequest(
        id=f"{job.session_id} total", expected_output_keys=["total"], data_dependencies=list(keys), payload=b"add\n"
    )
    small = [total]  # First of all: it waits for keys that are announced later.
    for key, file in keys.items():
        task_id = f"{job.session_id} {key}"
        if file.stat().st_size + len(b"count\n") > job.chunk_bytes:
            job.submit_large(task_id, key, b"split\n", file)
        else:
            payload = b"count\n" + file.read_bytes()
            small.append(objects_pb2.TaskRequest(id=task_id, expected_output_keys=[key], payload=payload))
    job.submit_small(small)
    return keys


def main() -> int:
    """Count; the exit code is 0 if all files could be counted."""
    parser = argparse.ArgumentParser(description="Counts the words of files on a cluster.")
    parser.add_argument("--address", default=os.environ.get("RIPIENO_ADDRESS", "127.0.0.1:5001"), metavar="HOST:PORT")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    failed = False
    with grpc.insecure_channel(arguments.address, options=[("grpc.service_config", json.dumps(RETRIES))]) as channel:
        job = Job(channel)
        try:
            names = {key: file.name for key, file in submit(job, arguments.files).items()} | {"total": "total"}
            for key, name in names.items():
                try:
                    words: dict[str, int] = json.loads(job.result(key))
                except RuntimeError as error:
                    print(f"{name}: {error}")
                    failed = True
                else:
                    often = max(words, key=lambda word: (words[word], word), default="")
                    print(f"{name}: {sum(words.values())} words, {len(words)} different, most often {often!r}")
            print(job.counts())
        finally:
            job.cancel()  # In case we were interrupted: nothing runs for nobody.
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
