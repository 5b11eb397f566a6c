"""A worker made of stubs as a process of its own, which dies or stalls on command.

Usage: ``python -m protocol.spawned_worker ADDRESS``

It is written with threads, unlike the bare workers in the tests' own process: a handler
that waits in a thread is what a cancelled call cannot interrupt. The commands are options
of the task:

* ``die after receiving``: the process is gone after that many messages of the first attempt.
* ``die after sending``: likewise, after that many messages that it sent.
* ``always``: not on the first attempt alone.
* ``print``: write this text to standard output, and how long it is to standard error.
* ``stall``: wait until the process is ended, whatever the agent asks.

Otherwise each expected output gets the attempt's id.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NoReturn

import grpc

from protocol.attempt_record import kind_of
from protocol.replies import output_ok, whole_result
from protocol.stubs import worker_service_pb2_grpc
from protocol.stubs.objects_pb2 import Empty
from protocol.stubs.worker_service_pb2 import HealthCheckReply, ProcessReply, ProcessRequest

DIE_AFTER_RECEIVING = "die after receiving"
DIE_AFTER_SENDING = "die after sending"
ALWAYS = "always"
STALL = "stall"
PRINT = "print"

#: Messages of a task with a payload of one chunk and one such dependency.
RECEIVED = 6
#: Messages of a task with one result: four of the result, and Output.
SENT = 5


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


class SpawnedWorker(worker_service_pb2_grpc.WorkerServicer):
    """One task at a time, as the options of the task say."""

    def HealthCheck(self, request: Empty, context: object) -> HealthCheckReply:  # noqa: N802
        return HealthCheckReply(status=HealthCheckReply.SERVING)

    def Process(  # noqa: N802
        self, requests: Iterator[ProcessRequest], context: grpc.ServicerContext
    ) -> Iterator[ProcessReply]:
        received = 1
        init = next(requests).compute.init_request
        command: dict[str, Any] = dict(init.task_options)
        if "###" in init.task_id and ALWAYS not in command:
            command.clear()
        deadly = int(command.get(DIE_AFTER_RECEIVING, -1))
        while True:
            if received == deadly:
                _die()
            request = next(requests)
            received += 1
            if kind_of(request) == "compute.init_data.last_data":
                break
        if received == deadly:
            _die()
        if PRINT in command:
            os.write(1, command[PRINT].encode())
            os.write(2, str(len(command[PRINT])).encode())
        if STALL in command:
            threading.Event().wait()
        yield from self._reply(init, int(command.get(DIE_AFTER_SENDING, -1)))
        for _ in requests:
            raise AssertionError("a message after Output")

    @staticmethod
    def _reply(init: ProcessRequest.ComputeRequest.InitRequest, deadly: int) -> Iterator[ProcessReply]:
        replies = [
            reply
            for number, key in enumerate(init.expected_output_keys)
            for reply in whole_result(f"r{number}", key, init.task_id.encode())
        ]
        for sent, reply in enumerate([*replies, output_ok()], start=1):
            yield reply
            # Only when the next one is asked for has this one been handed to gRPC.
            if sent == deadly:
                _die()


def main(address: str) -> None:
    """Serve until the process is ended."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    worker_service_pb2_grpc.add_WorkerServicer_to_server(SpawnedWorker(), server)
    server.add_insecure_port(address)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
