"""A client made of stubs: thin calls, each with a deadline, and what tests ask most often."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import grpc
import grpc.aio

from protocol import messages
from protocol.deadlines import PATIENCE_S, eventually
from protocol.messages import TaskStatus
from protocol.stubs import objects_pb2, result_status_pb2, submitter_service_pb2, submitter_service_pb2_grpc

CREATED = result_status_pb2.RESULT_STATUS_CREATED
RESULT_COMPLETED = result_status_pb2.RESULT_STATUS_COMPLETED
ABORTED = result_status_pb2.RESULT_STATUS_ABORTED


#: A connection of its own (channels to one address share one otherwise), and messages of any size.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


@dataclass
class Refusal:
    """What a refused call said, for further questions after ``refused``."""

    code: grpc.StatusCode | None = None
    detail: str = ""


@contextlib.contextmanager
def refused(*codes: grpc.StatusCode, naming: Iterable[str] = ()) -> Iterator[Refusal]:
    """Require that the block ends with one of these codes and a detail that contains all of ``naming``."""
    refusal = Refusal()
    try:
        yield refusal
    except grpc.RpcError as error:
        refusal.code, refusal.detail = code_of(error), error.details() or ""
        assert refusal.code in codes, f"{refusal.code.name} ({refusal.detail}), expected {[c.name for c in codes]}"
        for name in naming:
            assert name in refusal.detail, f"the detail does not name {name!r}: {refusal.detail!r}"
        assert "Traceback" not in refusal.detail, refusal.detail
    else:
        raise AssertionError(f"accepted, expected {[code.name for code in codes]}")


@contextlib.contextmanager
def perhaps_refused(*codes: grpc.StatusCode) -> Iterator[None]:
    """Allow the block to succeed or to end with one of these codes: where the protocol is silent."""
    try:
        yield
    except grpc.RpcError as error:
        if code_of(error) not in codes:
            raise AssertionError(f"{code_of(error).name} ({error.details()})") from error


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """The code of an error, from the blocking or the asynchronous half of gRPC."""
    code = error.code()
    assert isinstance(code, grpc.StatusCode)
    return code


class Client:
    """One channel to one replica.

    Attributes:
        stub: The bare stub, for what has no method here.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub = submitter_service_pb2_grpc.SubmitterStub(self._channel)
        # grpc.aio puts an INTERNAL of its own in place of the server's status when a write meets the end of a call.
        self._streaming_channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._streaming = submitter_service_pb2_grpc.SubmitterStub(self._streaming_channel)

    async def close(self) -> None:
        await self._channel.close()
        self._streaming_channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------ sessions

    async def session(self, stem: str = "session", default: objects_pb2.TaskOptions | None = None) -> str:
        """Create a session of a unique name."""
        return await self.named_session(messages.unique(stem), default)

    async def named_session(self, session_id: str, default: objects_pb2.TaskOptions | None = None) -> str:
        """Create a session of this name, which must be free."""
        request = submitter_service_pb2.CreateSessionRequest(
            id=session_id, default_task_option=default or messages.options()
        )
        reply = await self.stub.CreateSession(request, timeout=PATIENCE_S)
        assert reply.WhichOneof("result") == "ok", reply
        return session_id

    async def cancel_session(self, session_id: str) -> None:
        await self.stub.CancelSession(submitter_service_pb2.Session(id=session_id), timeout=PATIENCE_S)

    # ------------------------------------------------------------ submission

    async def submit(
        self, session_id: str, *tasks: objects_pb2.TaskRequest, task_options: objects_pb2.TaskOptions | None = None
    ) -> None:
        """CreateSmallTasks; it must succeed."""
        request = messages.small(session_id, *tasks, task_options=task_options)
        reply = await self.stub.CreateSmallTasks(request, timeout=PATIENCE_S)
        assert reply.WhichOneof("Data") == "successfull", reply

    async def submit_large(
        self, session_id: str, *tasks: objects_pb2.TaskRequest, task_options: objects_pb2.TaskOptions | None = None
    ) -> None:
        """CreateLargeTasks, ended by ``last_task`` and never half-closed; it must succeed."""
        reply = await self.stream_large(messages.large_submission(session_id, tasks, task_options), half_close=False)
        assert reply.WhichOneof("Data") == "successfull", reply

    async def stream_large(
        self,
        requests: Iterable[submitter_service_pb2.CreateLargeTaskRequest],
        *,
        half_close: bool,
        timeout_s: float = PATIENCE_S,
    ) -> objects_pb2.CreateTaskReply:
        """Send these messages to CreateLargeTasks as long as the server takes them; return its reply.

        Raises:
            grpc.RpcError: the server refused.
        """
        loop, answered, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def sent() -> Iterator[submitter_service_pb2.CreateLargeTaskRequest]:
            yield from requests
            if not half_close:
                over.wait(timeout_s)

        def done(_: object) -> None:
            over.set()
            loop.call_soon_threadsafe(answered.set)

        call = self._streaming.CreateLargeTasks.future(sent(), timeout=timeout_s)
        call.add_done_callback(done)
        await answered.wait()
        return call.result()

    # ------------------------------------------------------------ tasks

    async def statuses(self, *task_ids: str) -> dict[str, TaskStatus]:
        """Status by id, in the order of the reply."""
        reply = await self.stub.GetTaskStatus(
            submitter_service_pb2.GetTaskStatusRequest(task_ids=task_ids), timeout=PATIENCE_S
        )
        return {entry.task_id: entry.status for entry in reply.id_statuses}

    async def status(self, task_id: str) -> TaskStatus:
        """Status of one task that exists."""
        return (await self.statuses(task_id))[task_id]

    async def until(self, task_id: str, *statuses: TaskStatus, within_s: float = PATIENCE_S) -> TaskStatus:
        """Wait until a task is in one of these statuses; return which.

        Raises:
            AssertionError: it ended in another one, or the time is over.
        """

        async def reached() -> TaskStatus | None:
            status = await self.status(task_id)
            assert status in statuses or status not in messages.FINAL, f"{task_id} ended with status {status}"
            return status if status in statuses else None

        return await eventually(reached, f"{task_id} is in one of {statuses}", within_s=within_s)

    async def output(self, task_id: str, session_id: str = "") -> objects_pb2.Output:
        """TryGetTaskOutput."""
        return await self.stub.TryGetTaskOutput(
            objects_pb2.ResultRequest(session=session_id, key=task_id), timeout=PATIENCE_S
        )

    async def listed(self, task_filter: submitter_service_pb2.TaskFilter) -> list[str]:
        """ListTasks."""
        return list((await self.stub.ListTasks(task_filter, timeout=PATIENCE_S)).task_ids)

    async def counts(self, task_filter: submitter_service_pb2.TaskFilter) -> dict[TaskStatus, int]:
        """CountTasks."""
        return counted(await self.stub.CountTasks(task_filter, timeout=PATIENCE_S))

    async def cancel_tasks(self, task_filter: submitter_service_pb2.TaskFilter) -> None:
        await self.stub.CancelTasks(task_filter, timeout=PATIENCE_S)

    async def wait(
        self,
        task_filter: submitter_service_pb2.TaskFilter,
        *,
        or_error: bool = False,
        or_cancellation: bool = False,
        timeout_s: float = 2 * PATIENCE_S,
    ) -> dict[TaskStatus, int]:
        """WaitForCompletion."""
        request = submitter_service_pb2.WaitRequest(
            filter=task_filter,
            stop_on_first_task_error=or_error,
            stop_on_first_task_cancellation=or_cancellation,
        )
        return counted(await self.stub.WaitForCompletion(request, timeout=timeout_s))

    async def finish(self, session_id: str, *, timeout_s: float = 2 * PATIENCE_S) -> dict[TaskStatus, int]:
        """Wait until all tasks of a session are finished."""
        return await self.wait(messages.by_sessions(session_id), timeout_s=timeout_s)

    # ------------------------------------------------------------ results

    async def result_statuses(self, session_id: str, *keys: str) -> dict[str, int]:
        """Status by key, in the order of the reply."""
        request = submitter_service_pb2.GetResultStatusRequest(result_ids=keys, session_id=session_id)
        reply = await self.stub.GetResultStatus(request, timeout=PATIENCE_S)
        return {entry.result_id: entry.status for entry in reply.id_statuses}

    async def available(
        self, session_id: str, key: str, *, timeout_s: float = PATIENCE_S
    ) -> objects_pb2.TaskError | None:
        """WaitForAvailability: None for ``ok``, else the error."""
        reply = await self.stub.WaitForAvailability(
            objects_pb2.ResultRequest(session=session_id, key=key), timeout=timeout_s
        )
        assert reply.WhichOneof("type") in {"ok", "error"}, reply
        return reply.error if reply.HasField("error") else None

    async def result_replies(self, session_id: str, key: str) -> list[submitter_service_pb2.ResultReply]:
        """Everything that TryGetResultStream says."""
        return [reply async for reply in self.result_stream(session_id, key)]

    async def result_stream(
        self, session_id: str, key: str, *, timeout_s: float = PATIENCE_S
    ) -> AsyncIterator[submitter_service_pb2.ResultReply]:
        """TryGetResultStream, as it comes."""
        call = self.stub.TryGetResultStream(objects_pb2.ResultRequest(session=session_id, key=key), timeout=timeout_s)
        async for reply in call:
            yield reply

    async def result(self, session_id: str, key: str) -> bytes:
        """The bytes of a COMPLETED result, its stream checked."""
        replies = await self.result_replies(session_id, key)
        assert [reply.WhichOneof("type") for reply in replies] == ["result"] * len(replies), replies[:3]
        *pieces, end = (reply.result for reply in replies)
        assert pieces, f"result {key!r} came without a single chunk of data"
        assert end.WhichOneof("type") == "data_complete" and end.data_complete, end
        assert all(piece.WhichOneof("type") == "data" for piece in pieces)
        assert all(len(piece.data) <= messages.CHUNK for piece in pieces)
        return b"".join(piece.data for piece in pieces)


def counted(count: objects_pb2.Count) -> dict[TaskStatus, int]:
    """Count as a dictionary; it has one entry per status and none of zero."""
    found = {entry.status: entry.count for entry in count.values}
    assert len(found) == len(count.values) and 0 not in found.values(), count
    return found


def reasons(error: objects_pb2.TaskError | None) -> Sequence[str]:
    """The details of an error that must be there, oldest attempt first."""
    assert error is not None, "expected an error"
    return [entry.detail for entry in error.errors]
