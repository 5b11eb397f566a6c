"""The exception that the futures of a failed task raise."""

from __future__ import annotations

from ripieno.client import AsyncSession, TaskFailedError, TaskFailure, TaskStatus
from ripieno.functions.terms.failures import RemoteFailure, add_note, decode_failure


async def failures_of(session: AsyncSession, error: TaskFailedError) -> tuple[TaskFailure, TaskFailure]:
    """Return how a task failed, and how the first one did for want of whose value it failed; twice the same if none.

    Raises:
        RipienoError: the cluster could not be asked.
    """
    last = await session.failure(error.task_id)
    return last, await session.failure(last.root_task_id) if last.root_task_id else last


def exception_of(error: TaskFailedError, last: TaskFailure, first: TaskFailure) -> BaseException:
    """Return what the futures of a failed task raise, given its failures.

    If a function raised, of this task or of one whose value this task needed, that is its exception, with the remote
    traceback as its cause, and notes that say which task, attempt, worker and line it was. Otherwise (a time limit, a
    lost worker, a cancellation) it is ``error``, with such notes. Unpickles what the worker sent: not for an event loop.
    """
    remote = decode_failure(first.value) if first.value is not None else None
    raised = error if remote is None else remote.raised()
    add_note(raised, _place(first, remote))
    if first is not last:
        add_note(raised, f"task {last.task_id} did not run, since its input {last.failed_input} will never exist")
    return raised


def _place(failure: TaskFailure, remote: RemoteFailure | None) -> str:
    """Return in one line where it happened."""
    if failure.status is TaskStatus.CANCELLED:
        return f"task {failure.task_id} was cancelled"
    ran = f" on worker {failure.worker}" if failure.worker else ""
    line = f", raised at {remote.line}" if remote is not None and remote.line else ""
    return f"task {failure.task_id}, attempt {failure.attempt + 1}{ran}{line}"
