"""Processes a streamed batch of sub-tasks (``create_large_task``), message by message.

A message out of order is a violation. Wrong options or names make the batch refused: it is
read to its end, its payloads are dropped, and the answer names the offenders.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ripieno.agent.conversation.effects import Effect
from ripieno.agent.conversation.gathering import Gatherer, Gathering, put_payload
from ripieno.agent.conversation.sub_tasks import Asked, Family
from ripieno.agent.conversation.violations import ViolationError, too_long
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import TaskOptions
from ripieno.domain.submission import NewTask
from ripieno.wire.large_tasks import LargeTasksReader, PayloadContinued, TaskOpened
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2

InitRequest = worker_service_pb2.ProcessReply.CreateLargeTaskRequest.InitRequest


class LargeSubmission:
    """One streamed batch of sub-tasks that is arriving.

    Attributes:
        options: Options of the sub-tasks; None takes the session's default.
        tasks: The sub-tasks so far, as long as none is refused.
        asked: Number and size of all sub-tasks that were asked for.
    """

    def __init__(self, gatherer: Gatherer, init: InitRequest, family: Family) -> None:
        self.options: TaskOptions | None = None
        self.tasks: list[NewTask] = []
        self.asked = Asked()
        self._family = family
        self._gatherer = gatherer
        self._reader = LargeTasksReader(gatherer.limits.data_chunk_max_size)
        self._reader.init_request()
        self._ids: list[str] = []
        self._in_task = False
        self._gathering: Gathering | None = None
        self._refused: list[str] | None = None
        self._all_refused = False
        try:
            if init.HasField("task_options"):
                self.options = options_from_wire("task_options", init.task_options)
                family.check_options(self.options)
        except InvalidRequestError:
            self._refused, self._all_refused = [], True

    def init_task(self, init: objects_pb2.InitTaskRequest) -> bool:
        """Process a task's header, or ``last_task``.

        Returns:
            Whether it was ``last_task``.

        Raises:
            ViolationError: if the message is empty or out of order.
            TooMuchError: if the attempt asks for too many sub-tasks, or for too long names.
        """
        kind = init.WhichOneof("type")
        if kind is None:
            raise ViolationError("init_task has an empty oneof `type`")
        if self._in_task:
            raise ViolationError(f"init_task.{kind} inside a task; data_complete comes first")
        if kind == "last_task":
            return True
        self._in_task = True
        header = init.header
        self._family.ask(self.asked, header.id, header.expected_output_keys, header.data_dependencies)
        self._ids.append(header.id)
        if self._refused is None:
            self._header(init)
        return False

    def payload(self, chunk: objects_pb2.DataChunk) -> Sequence[Effect]:
        """Process a chunk of the open task's payload, or the end of the payload.

        Raises:
            ViolationError: if the message is empty or out of order, or the chunk is too long.
        """
        what = chunk.WhichOneof("type")
        if what is None:
            raise ViolationError("task_payload has an empty oneof `type`")
        if not self._in_task:
            raise ViolationError(f"task_payload.{what} outside a task; a header comes first")
        limits = self._gatherer.limits
        if len(chunk.data) > limits.data_chunk_max_size:
            raise too_long("task_payload", self._ids[-1], chunk.data, limits)
        if what == "data_complete":
            self._in_task = False
        if self._refused is not None or self._gathering is None:
            return ()
        event = self._reader.task_payload(chunk)
        if isinstance(event, PayloadContinued):
            return self._gatherer.add(self._gathering, event.data)
        gathering, self._gathering = self._gathering, None
        place = partial(put_payload, self.tasks, len(self.tasks) - 1)
        data, effects = self._gatherer.close(gathering, place)
        if not effects:
            place(data)
        return effects

    def offenders(self) -> list[str] | None:
        """Return the ids to refuse, all if the batch is at fault; None to accept it. Call after ``last_task``."""
        if self._all_refused or not self._ids:
            return self._ids
        return [*(self._refused or ()), *self._family.offenders(self.tasks)] or None

    def _header(self, init: objects_pb2.InitTaskRequest) -> None:
        try:
            opened = self._reader.init_task(init)
        except InvalidRequestError:
            self._refused = [init.header.id]
            return
        if isinstance(opened, TaskOpened):
            self.tasks.append(NewTask(opened.id, opened.expected_output_keys, opened.data_dependencies, b""))
            self._gathering = Gathering()
