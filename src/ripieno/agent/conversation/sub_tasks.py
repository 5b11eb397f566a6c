"""Checks the sub-tasks that one attempt asks for, batch by batch.

A refused batch is answered with the ids of the offenders (all ids when the batch itself is at
fault) and creates nothing. The sub-tasks of an accepted batch are created by the attempt's
commit, or never.

All sub-tasks of an attempt are held in memory here and written in one transaction. Therefore they are
counted as they arrive, and an attempt that asks for too many fails at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ripieno.agent.conversation.gathering import MAX_OUTCOME_BYTES, Limits
from ripieno.agent.conversation.violations import TooMuchError
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import SubTasks
from ripieno.domain.submission import NewTask, check_tasks
from ripieno.wire.protos.armonik_v2 import objects_pb2, worker_service_pb2

ProcessRequest = worker_service_pb2.ProcessRequest
_CreateTaskReply = objects_pb2.CreateTaskReply


#: Bytes that a sub-task or a key takes beside its name.
_BESIDE_BYTES = 8

_WAY_OUT = "create fewer at once, and let them create the others"


@dataclass(slots=True)
class Asked:
    """Count of the sub-tasks that were asked for, and approximate bytes of their names."""

    tasks: int = 0
    size: int = 0

    def add(self, tasks: int, size: int) -> None:
        """Add ``tasks`` sub-tasks whose names have ``size`` bytes; negative numbers subtract."""
        self.tasks += tasks
        self.size += size


@dataclass(slots=True, eq=False)
class Family:
    """The accepted sub-tasks of one attempt, and the expected outputs that it still has to produce.

    Attributes:
        parent_id: Id of the attempt's own task.
        expected: Keys of the attempt's expected outputs.
        taken: Keys of expected outputs that are sent (or being sent) or delegated, with a text that says which.
        batches: Accepted batches, in order.
        limits: Limits on what the attempt may ask for.
    """

    parent_id: str
    expected: Sequence[str] | frozenset[str]
    taken: dict[str, str] = field(default_factory=dict)
    batches: list[SubTasks] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    #: Count of sub-tasks that are accepted or still arriving.
    _asked: Asked = field(default_factory=Asked)
    _ids: set[str] = field(default_factory=set)
    _keys: set[str] = field(default_factory=set)

    def ask(self, batch: Asked, task_id: str, *keys: Sequence[str]) -> None:
        """Count a sub-task of a batch against the attempt's limits, before it is checked.

        Args:
            batch: The count of the batch.
            task_id: Id of the sub-task.
            keys: Its expected outputs, and its data dependencies.

        Raises:
            TooMuchError: if the attempt asks for too many sub-tasks, or for too long names.
        """
        size = len(task_id) + _BESIDE_BYTES + sum([sum(map(len, some)) + _BESIDE_BYTES * len(some) for some in keys])
        batch.add(1, size)
        self._asked.add(1, size)
        if self._asked.tasks > (most := self.limits.sub_tasks_per_attempt):
            raise TooMuchError(
                f"limit sub_tasks_per_attempt is {most:,}, and this attempt asks for more sub-tasks; {_WAY_OUT}"
            )
        if self._asked.size > MAX_OUTCOME_BYTES:
            raise TooMuchError(
                f"the names of this attempt's sub-tasks have more bytes than one commit takes"
                f" ({MAX_OUTCOME_BYTES:,}); {_WAY_OUT}"
            )

    def refused(self, batch: Asked) -> None:
        """Take a refused batch out of the attempt's count."""
        self._asked.add(-batch.tasks, -batch.size)

    def check_options(self, options: TaskOptions) -> None:
        """Check that the options of sub-tasks are not too long.

        Raises:
            TooMuchError: if the options are longer than ``options_bytes``.
        """
        if options.options and (size := options.free_bytes) > (most := self.limits.options_bytes):
            raise TooMuchError(
                f"limit options_bytes is {most:,}, and this attempt asks for sub-tasks with {size:,} bytes of options;"
                " put what is long into payloads or results"
            )

    def offenders(self, tasks: Sequence[NewTask], chunk_limit_bytes: int | None = None) -> list[str]:
        """Return the ids of tasks that may not be accepted, in order; empty if all may."""
        ids: set[str] = set()
        keys: set[str] = set()
        offenders = []
        for task in tasks:
            if not self._acceptable(task, ids, keys, chunk_limit_bytes):
                offenders.append(task.id)
            ids.add(task.id)
            keys.update(task.expected_output_keys)
        return offenders

    def accept(self, options: TaskOptions | None, tasks: Sequence[NewTask]) -> None:
        """Accept a batch without offenders; ``tasks`` is kept, not copied."""
        for task in tasks:
            self._ids.add(task.id)
            for key in task.expected_output_keys:
                self._keys.add(key)
                if key in self.expected:
                    self.taken[key] = f"delegated to sub-task {task.id!r}"
        self.batches.append(SubTasks(options, tasks))

    def _acceptable(self, task: NewTask, ids: set[str], keys: set[str], chunk_limit_bytes: int | None) -> bool:
        try:
            check_tasks("task_requests", [task])
        except InvalidRequestError:
            return False
        if task.id in ids or task.id in self._ids or task.id == self.parent_id:
            return False
        if chunk_limit_bytes is not None and isinstance(task.payload, bytes) and len(task.payload) > chunk_limit_bytes:
            return False
        return not any(key in keys or key in self._keys or key in self.taken for key in task.expected_output_keys)


def reply_accepted(request_id: str) -> ProcessRequest:
    """Build the answer to a batch that was accepted."""
    reply = _CreateTaskReply(successfull=objects_pb2.Empty())
    return ProcessRequest(create_task=ProcessRequest.CreateTask(reply_id=request_id, reply=reply))


def reply_refused(request_id: str, ids: Sequence[str]) -> ProcessRequest:
    """Build the answer to a batch that was refused, with the ids of the offenders."""
    reply = _CreateTaskReply(non_successfull_ids=_CreateTaskReply.TaskIds(ids=ids))
    return ProcessRequest(create_task=ProcessRequest.CreateTask(reply_id=request_id, reply=reply))
