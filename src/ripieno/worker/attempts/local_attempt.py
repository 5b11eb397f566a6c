"""``LocalAttempt``: an attempt without an agent, in the process that asked for it.

It stands where a lane's attempt stands: what the handler sends are the same messages, checked by the same
operations. They go nowhere: results are kept, sub-tasks are noted, questions are answered at once from what was
given beforehand. Nothing here knows a cluster.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import RLock
from typing import cast

from ripieno.domain.options import TaskOptions
from ripieno.wire.chunks import DEFAULT_CHUNK_BYTES, chunks
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2
from ripieno.worker.attempts.attempt import Attempt
from ripieno.worker.attempts.reply_outbox import Outbox
from ripieno.worker.conversation.replies import ProcessReply, output_ok, result_begun, result_continued, result_ended
from ripieno.worker.conversation.spool import Spool
from ripieno.worker.conversation.sub_tasks import SubTask

_Request = worker_service_pb2.ProcessRequest
_Compute = _Request.ComputeRequest
_Chunk = objects_pb2.DataChunk

#: Bytes, or a file that holds them, whose data is never in memory whole.
Input = bytes | os.PathLike[str]


class _NoOutbox(Outbox):
    """The outbox of an attempt whose replies go nowhere: there is always room, and what is to be done is done at once."""

    def __init__(self) -> None:
        super().__init__(cast(asyncio.AbstractEventLoop, None))

    def on_loop(self, action: Callable[[], object]) -> None:
        action()

    def room(self) -> Future[None] | None:
        return None


class LocalAttempt(Attempt):
    """One attempt in this process.

    Args:
        init: What is small about the task.
        payload: The task's input.
        data: The data dependencies by key.
        resources: What ``task.resource`` and its like are answered with, by key.

    Attributes:
        results: The results that were sent, by key; whole ones alone once the attempt is over.
        sub_tasks: The sub-tasks that were taken, in order.
        sub_task_options: Their options by their ids, where they differ from the session's.
        failure: Why the attempt failed; None if it did not.
        is_final: Whether the handler failed the task for good, so that no retry would follow.
    """

    __slots__ = (
        "_answering",
        "_keys",
        "_large",
        "_sending",
        "failure",
        "is_final",
        "resources",
        "results",
        "sub_task_options",
        "sub_tasks",
    )

    def __init__(
        self, init: _Compute.InitRequest, payload: Input, data: Mapping[str, Input], resources: Mapping[str, bytes]
    ) -> None:
        super().__init__(_NoOutbox())
        self.results: dict[str, Spool] = {}
        self.sub_tasks: list[SubTask] = []
        self.sub_task_options: dict[str, TaskOptions] = {}
        self.resources = resources
        self.failure: str | None = None
        self.is_final = False
        # A handler may use its task in several threads.
        self._answering = RLock()
        self._sending: dict[str, str] = {}
        self._keys: set[str] = set()
        self._large: dict[str, _Batch] = {}
        self.receive(_Request(compute=_Compute(init_request=init)))
        self._give(payload, lambda chunk: _Compute(payload=chunk))
        for key, datum in data.items():
            self.receive(_Request(compute=_Compute(init_data=_Compute.InitData(key=key))))
            self._give(datum, lambda chunk: _Compute(data=chunk))
        self.receive(_Request(compute=_Compute(init_data=_Compute.InitData(last_data=True))))

    def send(self, replies: Sequence[ProcessReply]) -> None:
        with self._answering:
            for reply in replies:
                self._take(reply)

    def finish(self, replies: Sequence[ProcessReply], failure_value: bytes | None = None) -> None:
        self.send(replies)
        self.end()

    def finish_with_result(self, key: str, data: bytes) -> None:
        request_id = self.new_request_id()
        begun = [result_begun(request_id, key), result_continued(request_id, data)]
        self.finish([*begun, *result_ended(request_id), output_ok()])

    # Whoever runs the handler here has the exception itself, and needs no value of it.
    def fail(self, detail: str, failure_value: bytes | None = None) -> None:
        self.failure = detail
        self.end()

    def end(self) -> None:
        super().end()
        if self.failure is not None:  # nothing of an attempt that failed is committed
            self.discard()
            self.sub_tasks.clear()
            self.sub_task_options.clear()

    def discard(self) -> None:
        """Release the results; those that are read from now on raise ValueError."""
        for spool in self.results.values():
            spool.close()
        self.results.clear()

    def _give(self, data: Input, message: Callable[[_Chunk], _Compute]) -> None:
        if isinstance(data, os.PathLike):
            path = Path(data)
            self.conversation.receive_file(str(path), path.stat().st_size)
        else:
            for chunk in chunks(data, DEFAULT_CHUNK_BYTES):
                self.receive(_Request(compute=message(_Chunk(data=chunk))))
        self.receive(_Request(compute=message(_Chunk(data_complete=True))))

    def _take(self, reply: ProcessReply) -> None:
        kind = reply.WhichOneof("type")
        if kind == "result":
            self._take_result(reply.request_id, reply.result)
        elif kind == "output":
            if reply.output.WhichOneof("type") == "error":
                self.failure, self.is_final = reply.output.error.details, True
        elif kind == "create_small_task":
            small = reply.create_small_task
            batch = _Batch.of(small)
            batch.tasks += [
                SubTask(each.payload, tuple(each.expected_output_keys), tuple(each.data_dependencies), each.id)
                for each in small.task_requests
            ]
            self._take_batch(reply.request_id, batch)
        elif kind == "create_large_task":
            self._take_large(reply.request_id, reply.create_large_task)
        elif kind is not None:
            self._tell(reply.request_id, kind, getattr(reply, kind).key)

    def _take_result(self, request_id: str, result: ProcessReply.Result) -> None:
        if result.WhichOneof("type") == "init":
            if result.init.WhichOneof("type") == "key":
                self._sending[request_id] = result.init.key
                self.results[result.init.key] = Spool()
        elif result.data.WhichOneof("type") == "data":
            self.results[self._sending[request_id]].append(result.data.data)

    def _take_large(self, request_id: str, message: ProcessReply.CreateLargeTaskRequest) -> None:
        kind = message.WhichOneof("type")
        if kind == "init_request":
            self._large[request_id] = _Batch.of(message.init_request)
            return
        batch = self._large[request_id]
        if kind == "task_payload":
            batch.payload += message.task_payload.data
            return
        batch.close()
        if message.init_task.WhichOneof("type") == "header":
            batch.header = message.init_task.header
        else:
            self._take_batch(request_id, self._large.pop(request_id))

    def _take_batch(self, request_id: str, batch: "_Batch") -> None:
        """Take a batch of sub-tasks, or refuse it as a cluster would: for a name that is taken in this attempt."""
        ids = {self.conversation.init.task_id, *(task.id for task in self.sub_tasks)}
        offenders = [
            task.id
            for task in batch.tasks
            if task.id in ids or not self._keys.isdisjoint(task.expected_output_keys)
        ]  # fmt: skip
        answer = objects_pb2.CreateTaskReply(successfull=objects_pb2.Empty())
        if offenders:
            answer = objects_pb2.CreateTaskReply(non_successfull_ids=objects_pb2.CreateTaskReply.TaskIds(ids=offenders))
        else:
            self.sub_tasks += batch.tasks
            self._keys.update(key for task in batch.tasks for key in task.expected_output_keys)
            if batch.options is not None:
                self.sub_task_options.update((task.id, batch.options) for task in batch.tasks)
        self.receive(_Request(create_task=_Request.CreateTask(reply_id=request_id, reply=answer)))

    def _tell(self, request_id: str, kind: str, key: str) -> None:
        """Answer a question for a result's bytes."""
        reply = _Request.DataReply

        def answer(message: _Request.DataReply) -> None:
            self.receive(_Request(**{kind: message}))  # type: ignore[arg-type]

        if key not in self.resources:
            init = reply.Init(key=key, error=f"{key!r} was not given to this run")
            answer(reply(reply_id=request_id, init=init))
            return
        answer(reply(reply_id=request_id, init=reply.Init(key=key, data=_Chunk(data=self.resources[key]))))
        answer(reply(reply_id=request_id, data=_Chunk(data_complete=True)))


class _Batch:
    """A batch of sub-tasks as it comes."""

    def __init__(self, options: TaskOptions | None) -> None:
        self.options = options
        self.tasks: list[SubTask] = []
        self.header: objects_pb2.TaskRequestHeader | None = None
        self.payload = bytearray()

    @classmethod
    def of(
        cls, message: ProcessReply.CreateSmallTaskRequest | ProcessReply.CreateLargeTaskRequest.InitRequest
    ) -> "_Batch":
        """Return an empty batch with the options of a message."""
        has_options = message.HasField("task_options")
        return cls(options_from_wire("task_options", message.task_options) if has_options else None)

    def close(self) -> None:
        """End the sub-task whose payload has arrived."""
        if self.header is not None:
            head = self.header
            keys, needed = tuple(head.expected_output_keys), tuple(head.data_dependencies)
            self.tasks.append(SubTask(bytes(self.payload), keys, needed, head.id))
            self.header, self.payload = None, bytearray()
