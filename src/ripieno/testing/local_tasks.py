"""``LocalTasks``: runs function tasks in this process, one after the other, as a cluster would."""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO

from ripieno.client import NotFoundError, TaskFailedError, TaskFailure, TaskOutput, TaskStatus
from ripieno.domain.options import TaskOptions
from ripieno.domain.outcomes import AttemptError
from ripieno.functions.running.handler import handle
from ripieno.functions.showing.counting import Count
from ripieno.worker.running.failures import value_of
from ripieno.worker.running.in_process import Outcome, run_task

#: The name that failures give for the worker.
WORKER = "this process"


@dataclass(frozen=True, slots=True)
class LocalTask:
    """A task as a cluster keeps it.

    Attributes:
        id: The task's id.
        payload: The envelope of its function.
        outputs: Keys of the results that it makes.
        dependencies: Keys of the results that have to be there first.
        options: Its options.
    """

    id: str
    payload: bytes
    outputs: tuple[str, ...]
    dependencies: tuple[str, ...]
    options: TaskOptions


#: What became of a result: its bytes, or why there are none.
Result = bytes | TaskFailedError


class LocalTasks:
    """The tasks of one session, and what became of them.

    A task runs as soon as its inputs are there, in the order of submission; sub-tasks follow when their parent has ended. Time
    has no say: no task waits for a delay, and none runs out of its time limit.

    Args:
        session_id: The session's id.
        defaults: Options of sub-tasks that have none of their own.
        on_final: Called with the key of each result once it is final.
    """

    def __init__(self, session_id: str, defaults: TaskOptions, on_final: Callable[[str, Result], None]) -> None:
        self.session_id = session_id
        self._defaults = defaults
        #: What was stored by callers, by key.
        self.stored: dict[str, bytes] = {}
        self.results: dict[str, Result] = {}
        self._on_final = on_final
        self._ready: deque[LocalTask] = deque()
        self._waiting: dict[str, list[LocalTask]] = {}
        self._missing: dict[str, int] = {}
        self._outputs: dict[str, list[TaskOutput]] = {}
        self._failures: dict[str, list[TaskFailure]] = {}

    def add(self, tasks: Sequence[LocalTask]) -> None:
        """Take tasks; ``run`` runs them."""
        for task in tasks:
            missing = {key for key in task.dependencies if key not in self.results}
            if missing:
                self._missing[task.id] = len(missing)
                for key in missing:
                    self._waiting.setdefault(key, []).append(task)
            else:
                self._ready.append(task)

    def run(self) -> None:
        """Run all that can run. What waits afterwards waits for results that no task makes, and fails."""
        while self._ready:
            self._run(self._ready.popleft())
        while self._missing:
            task = next(task for tasks in self._waiting.values() for task in tasks if task.id in self._missing)
            key = next(key for key in task.dependencies if key not in self.results)
            del self._missing[task.id]
            self._fail(task, 0, f"it needs the result {key!r}, which no task of this session makes")
            while self._ready:
                self._run(self._ready.popleft())

    def count(self) -> Count:
        """Return how many tasks have ended, sub-tasks among them."""
        ended = len(self.results)
        return Count(ended, ended, sum(isinstance(each, TaskFailedError) for each in self.results.values()))

    def abandon(self) -> None:
        """Forget what has not run."""
        self._ready.clear()
        self._waiting.clear()
        self._missing.clear()

    def output(self, task_id: str, attempt: int | None) -> TaskOutput:
        """Return what an attempt has printed; ``attempt`` None means the latest.

        Raises:
            NotFoundError: there is no such attempt.
        """
        attempts = self._outputs.get(task_id, [])
        for each in reversed(attempts):
            if attempt is None or each.attempt == attempt:
                return each
        raise NotFoundError(f"task {task_id!r} has not run" if not attempts else f"there is no attempt {attempt}")

    def failure(self, task_id: str, attempt: int | None) -> TaskFailure:
        """Return how an attempt failed; ``attempt`` None means the latest that did.

        Raises:
            NotFoundError: there is no such attempt, or it has not failed.
        """
        for each in reversed(self._failures.get(task_id, [])):
            if attempt is None or each.attempt == attempt:
                return each
        raise NotFoundError(f"task {task_id!r} has no attempt of that number that failed")

    def _run(self, task: LocalTask) -> None:
        data: dict[str, bytes] = {}
        for key in task.dependencies:
            found = self.results[key]
            if isinstance(found, TaskFailedError):
                self._fail_for_want_of(task, key, found)
                return
            data[key] = found
        for attempt in range(task.options.max_retries + 1):
            outcome = self._attempt(task, attempt, data)
            if outcome.ok:
                self._complete(task, outcome)
                return
            if outcome.is_final or attempt == task.options.max_retries:
                self._fail(task, attempt, outcome.reason or "", outcome.error)
                return
            self._failures.setdefault(task.id, []).append(_failure(task, attempt, outcome.reason or "", outcome.error))

    def _attempt(self, task: LocalTask, attempt: int, data: Mapping[str, bytes]) -> Outcome:
        out, err = io.BytesIO(), io.BytesIO()
        with _printing_also_to(out, err):
            outcome = run_task(
                handle,
                task.payload,
                data=data,
                options=task.options.options,
                expected_output_keys=task.outputs,
                resources=self.stored,
                task_id=task.id if not attempt else f"{task.id}###{attempt}",
                session_id=self.session_id,
            )
        printed = TaskOutput(attempt, out.getvalue(), err.getvalue(), 0, 0, over=True)
        self._outputs.setdefault(task.id, []).append(printed)
        return outcome

    def _complete(self, task: LocalTask, outcome: Outcome) -> None:
        made = [
            LocalTask(
                each.id,
                bytes(each.payload),
                tuple(each.expected_output_keys),
                tuple(each.data_dependencies),
                outcome.sub_task_options.get(each.id, self._defaults),
            )
            for each in outcome.sub_tasks
        ]
        for key, data in outcome.results.items():
            self._settle(key, data)
        for key in outcome.missing:
            self._settle(key, TaskFailedError(key, task.id, []))
        self.add(made)

    def _fail(self, task: LocalTask, attempt: int, reason: str, error: BaseException | None = None) -> None:
        failures = self._failures.setdefault(task.id, [])
        failures.append(_failure(task, attempt, reason, error))
        for key in task.outputs:
            self._settle(
                key, TaskFailedError(key, task.id, [AttemptError(each.status, each.detail) for each in failures])
            )

    def _fail_for_want_of(self, task: LocalTask, key: str, error: TaskFailedError) -> None:
        first = self.failure(error.task_id, None)
        root = first.root_task_id or first.task_id
        reason = f"its input {key!r} will never exist: {error}"
        self._failures.setdefault(task.id, []).append(
            TaskFailure(task.id, 0, TaskStatus.ERROR, reason, failed_input=key, root_task_id=root)
        )
        for output in task.outputs:
            self._settle(output, TaskFailedError(output, task.id, [AttemptError(TaskStatus.ERROR, reason)]))

    def _settle(self, key: str, result: Result) -> None:
        self.results[key] = result
        for task in self._waiting.pop(key, ()):
            if task.id in self._missing:
                self._missing[task.id] -= 1
                if not self._missing[task.id]:
                    del self._missing[task.id]
                    self._ready.append(task)
        self._on_final(key, result)


def _failure(task: LocalTask, attempt: int, reason: str, error: BaseException | None) -> TaskFailure:
    value = None if error is None else value_of(error)
    return TaskFailure(task.id, attempt, TaskStatus.ERROR, reason, value, worker=WORKER)


class _Copied(io.TextIOBase):
    """A stream that writes to another one, and keeps a copy."""

    def __init__(self, stream: TextIO, copy: io.BytesIO) -> None:
        self._stream = stream
        self._copy = copy

    def write(self, text: str) -> int:
        self._copy.write(text.encode("utf-8", "backslashreplace"))
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True


@contextmanager
def _printing_also_to(out: io.BytesIO, err: io.BytesIO) -> Iterator[None]:
    with redirect_stdout(_Copied(sys.stdout, out)), redirect_stderr(_Copied(sys.stderr, err)):
        yield


__all__ = ["WORKER", "LocalTask", "LocalTasks", "Result"]
