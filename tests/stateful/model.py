"""What the store should do, in plain Python: one thing after the other, nothing kept twice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ripieno.domain.statuses import (
    SESSION_TRANSITIONS,
    TAKES_RETRIES,
    TAKES_TASKS,
    TASK_TRANSITIONS,
    ResultStatus,
    SessionStatus,
    SessionStep,
    TaskStatus,
)
from ripieno.domain.submission import NewTask

Key = tuple[str, str]


class TakenError(Exception):
    """An id or a key is taken."""


class CancelledError(Exception):
    """The session takes no more."""


class StepError(Exception):
    """The session's status does not allow the step."""


@dataclass
class ModelSession:
    """Where a session is in its life."""

    status: SessionStatus = SessionStatus.RUNNING
    takes_of_clients: bool = True
    takes_of_workers: bool = True


@dataclass
class ModelTask:
    """A task, with what it was submitted as."""

    number: int
    session: str
    submitted: NewTask
    priority: int
    max_retries: int
    status: TaskStatus = TaskStatus.SUBMITTED
    retry: int = 0
    claim: int | None = None
    #: Number of the last attempt that may be followed by another one without being asked for.
    last_retry: int = -1
    #: It failed because of an input, without an attempt.
    for_want_of_input: bool = False
    #: An agent has held it since it last waited for inputs: what is deleted afterwards it does not wait for again.
    was_held: bool = False
    #: What its options say of times: "delay", "deadline", "pause" (before another attempt).
    times: frozenset[str] = frozenset()
    #: Its time has not come.
    is_early: bool = False
    #: Its deadline is to come.
    has_deadline: bool = False
    #: It is being interrupted at its deadline.
    is_late: bool = False

    def __post_init__(self) -> None:
        self.last_retry = self.max_retries
        self.is_early = "delay" in self.times
        self.has_deadline = "deadline" in self.times


@dataclass
class ModelResult:
    """A result and who owes it; nobody does if a client is to upload it."""

    owner: str | None
    status: ResultStatus = ResultStatus.CREATED


@dataclass
class Ok:
    """An attempt that went well: keys it sends, and sub-tasks (which may take keys over)."""

    sends: Sequence[str] = ()
    sub_tasks: Sequence[NewTask] = ()


@dataclass
class Broken:
    """An attempt that did not."""

    status: TaskStatus = TaskStatus.ERROR
    may_retry: bool = True


@dataclass
class Model:
    """The reference."""

    sessions: dict[str, ModelSession] = field(default_factory=lambda: defaultdict(ModelSession))
    tasks: dict[str, ModelTask] = field(default_factory=dict)
    results: dict[Key, ModelResult] = field(default_factory=dict)
    numbers: int = 0

    def submit(
        self,
        session: str,
        tasks: Sequence[NewTask],
        priority: int,
        max_retries: int,
        times: frozenset[str] = frozenset(),
    ) -> None:
        """Create tasks, all or none.

        Raises:
            TakenError, CancelledError: and nothing is created.
        """
        found = self.sessions[session]
        if found.status is not SessionStatus.PURGED and self._identical(session, tasks, priority, max_retries, times):
            return
        if found.status not in TAKES_TASKS or not found.takes_of_clients:
            raise CancelledError
        self._create(session, tasks, priority, max_retries, times=times)

    def claim(self, limit: int) -> list[str]:
        """Ids of what is claimed, most urgent first; the caller sets the claims."""
        ready = [task_id for task_id, task in self.tasks.items() if self._claimable(task)]
        ready.sort(key=lambda task_id: (-self.tasks[task_id].priority, self.tasks[task_id].number))
        return ready[:limit]

    def move(self, task_id: str, status: TaskStatus) -> None:
        """One step of a task's life.

        Raises:
            AssertionError: there is no such step.
        """
        task = self.tasks[task_id]
        assert status in TASK_TRANSITIONS[task.status], (task_id, task.status, status)
        task.status = status
        if status.final or status is TaskStatus.SUBMITTED:
            task.claim = None

    def owns(self, task_id: str, claim: int) -> bool:
        """Whether a claim owns a task."""
        return task_id in self.tasks and self.tasks[task_id].claim == claim

    def end(self, task_id: str, how: Ok | Broken) -> None:
        """The outcome of the attempt that owns the task."""
        task = self.tasks[task_id]
        if task.status is TaskStatus.CANCELLING:
            self.move(task_id, TaskStatus.TIMEOUT if task.is_late else TaskStatus.CANCELLED)
            return
        session = self.sessions[task.session]
        takes = session.status in TAKES_TASKS and session.takes_of_workers
        if isinstance(how, Ok) and how.sub_tasks and not takes:
            how = Broken(TaskStatus.ERROR, may_retry=False)
        if isinstance(how, Ok):
            try:
                self._complete(task_id, how)
                return
            except TakenError:
                how = Broken(TaskStatus.ERROR, may_retry=False)
        if how.may_retry and task.retry < task.last_retry:
            self.move(task_id, TaskStatus.SUBMITTED)
            task.retry += 1
            task.is_early = "pause" in task.times
        else:
            self.move(task_id, how.status)
            self._abort_outputs([task_id])

    def release(self, task_id: str, claim: int) -> bool:
        """Give an attempt back."""
        task = self.tasks[task_id]
        if task.claim != claim or task.status is TaskStatus.CANCELLING:
            return False
        self.move(task_id, TaskStatus.SUBMITTED)
        return True

    def cancel(self, ids: Iterable[str]) -> None:
        """Cancel what is unfinished."""
        stopped = [task_id for task_id in ids if not self.tasks[task_id].status.final]
        stopped = [task_id for task_id in stopped if self.tasks[task_id].status is not TaskStatus.CANCELLING]
        for task_id in stopped:
            waits = self.tasks[task_id].status is TaskStatus.SUBMITTED
            self.move(task_id, TaskStatus.CANCELLED if waits else TaskStatus.CANCELLING)
        self._abort_outputs(stopped)

    def come(self, kind: str, ids: Iterable[str]) -> None:
        """The time ("start") or the deadline ("deadline") of these tasks has come, where it was to come."""
        tasks = [self.tasks[task_id] for task_id in ids]
        if kind == "start":
            for task in tasks:
                task.is_early = False
            return
        late = [task for task in tasks if task.has_deadline and not task.status.final]
        for task in tasks:
            task.has_deadline = False
        stopped = [task for task in late if task.status is not TaskStatus.CANCELLING]
        for task in stopped:
            waits = task.status is TaskStatus.SUBMITTED
            self.move(task.submitted.id, TaskStatus.TIMEOUT if waits else TaskStatus.CANCELLING)
            task.is_late, task.is_early = not waits, False
        self._abort_outputs([task.submitted.id for task in stopped])

    def step(self, session: str, step: SessionStep) -> None:
        """A step of a session's life, and what follows from it.

        Raises:
            StepError: and nothing changes.
        """
        found = self.sessions[session]
        own = [task_id for task_id, task in self.tasks.items() if task.session == session]
        after = SESSION_TRANSITIONS[found.status].get(step)
        if after is None or (step is SessionStep.PURGE and any(not self.tasks[each].status.final for each in own)):
            raise StepError
        found.status = after
        if step is SessionStep.CANCEL:
            self.cancel(own)
            self._abort_unowned(session)
        elif step is SessionStep.PURGE:
            for (of, _), result in self.results.items():
                if of == session and result.status is ResultStatus.COMPLETED:
                    result.status = ResultStatus.DELETED
            self._abort_unowned(session)
        elif step is SessionStep.DELETE:
            for each in own:
                del self.tasks[each]
            self.results = {key: result for key, result in self.results.items() if key[0] != session}

    def retry(self, session: str, ids: Iterable[str]) -> list[str]:
        """Retry those of a session's tasks that failed by themselves, and revive what is below; ids of the former.

        Raises:
            CancelledError: and nothing is retried.
        """
        asked = [self.tasks[task_id] for task_id in ids]
        failed = [
            task
            for task in asked
            if task.session == session
            and task.status in (TaskStatus.ERROR, TaskStatus.TIMEOUT)
            and not task.for_want_of_input
        ]
        if failed and self.sessions[session].status not in TAKES_RETRIES:
            raise CancelledError
        failed = [task for task in failed if not self._lacks_for_good(task)]
        for task in failed:
            self._wait_again(task)
            task.is_early = False
            task.retry += 1
            task.last_retry = task.retry + task.max_retries
        self._revive(session)
        return sorted(task.submitted.id for task in failed)

    def _revive(self, session: str) -> None:
        changed = True
        while changed:
            changed = False
            for task in self.tasks.values():
                if task.session == session and task.for_want_of_input and not self._lacks_for_good(task):
                    self._wait_again(task)
                    changed = True

    def _wait_again(self, task: ModelTask) -> None:
        self.move(task.submitted.id, TaskStatus.SUBMITTED)
        task.for_want_of_input = task.was_held = task.is_late = False
        task.has_deadline = "deadline" in task.times
        for result in self.results.values():
            if result.owner == task.submitted.id and result.status is ResultStatus.ABORTED:
                result.status = ResultStatus.CREATED

    def create_result(self, session: str, key: str, *, complete: bool) -> None:
        """A client's result.

        Raises:
            CancelledError: the session takes none.
        """
        if self.sessions[session].status not in TAKES_TASKS:
            raise CancelledError
        self.results[session, key] = ModelResult(None, ResultStatus.COMPLETED if complete else ResultStatus.CREATED)

    def upload(self, session: str, key: str) -> bool:
        """A client's upload of the data that only this key has; whether it is there now."""
        result = self.results[session, key]
        if result.owner is None and result.status is ResultStatus.CREATED:
            result.status = ResultStatus.COMPLETED
        return result.owner is None and result.status is ResultStatus.COMPLETED

    def delete_data(self, session: str, keys: Iterable[str]) -> set[str]:
        """Delete data, which fails whoever waits and needs it; the keys of what was there."""
        deleted = {key for key in keys if self._status_of(session, key) is ResultStatus.COMPLETED}
        for key in deleted:
            self.results[session, key].status = ResultStatus.DELETED
        self._fail_for(
            [
                task
                for task in self.tasks.values()
                if task.session == session and deleted.intersection(task.submitted.needs())
            ]
        )
        return deleted

    def _abort_unowned(self, session: str) -> None:
        for (of, _), result in self.results.items():
            if of == session and result.owner is None and result.status is ResultStatus.CREATED:
                result.status = ResultStatus.ABORTED

    def _fail_for(self, tasks: Iterable[ModelTask]) -> None:
        for task in tasks:
            if task.status is TaskStatus.SUBMITTED:
                self.move(task.submitted.id, TaskStatus.ERROR)
                task.for_want_of_input = True
                self._abort_outputs([task.submitted.id])

    def _wants_aborted(self, task: ModelTask) -> bool:
        return any(self._status_of(task.session, key) is ResultStatus.ABORTED for key in task.submitted.needs())

    def _lacks_for_good(self, task: ModelTask) -> bool:
        return any(self._status_of(task.session, key).unobtainable for key in task.submitted.needs())

    def statuses(self) -> Mapping[str, tuple[TaskStatus, int]]:
        """Status and retries of every task."""
        return {task_id: (task.status, task.retry) for task_id, task in self.tasks.items()}

    def _claimable(self, task: ModelTask) -> bool:
        paused = self.sessions[task.session].status is SessionStatus.PAUSED
        return (
            not paused
            and task.status is TaskStatus.SUBMITTED
            and not task.is_early
            and all(self._met(task, key) for key in task.submitted.needs())
        )

    def _met(self, task: ModelTask, key: str) -> bool:
        status = self._status_of(task.session, key)
        return status is ResultStatus.COMPLETED or (task.was_held and status is ResultStatus.DELETED)

    def _status_of(self, session: str, key: str) -> ResultStatus:
        result = self.results.get((session, key))
        return ResultStatus.NAMED if result is None else result.status

    def _identical(
        self, session: str, tasks: Sequence[NewTask], priority: int, max_retries: int, times: frozenset[str]
    ) -> bool:
        return all(
            (known := self.tasks.get(task.id)) is not None
            and (known.session, known.priority, known.max_retries, known.times, known.submitted)
            == (session, priority, max_retries, times, task)
            for task in tasks
        )

    def _create(
        self,
        session: str,
        tasks: Sequence[NewTask],
        priority: int,
        max_retries: int,
        parent: str | None = None,
        times: frozenset[str] = frozenset(),
    ) -> None:
        announced = [
            (task.id, key) for task in tasks for key in task.expected_output_keys if not self._of(session, key, parent)
        ]
        keys = [key for _, key in announced]
        ids = [task.id for task in tasks]
        taken = len(set(keys)) < len(keys) or len(set(ids)) < len(ids)
        if taken or self.tasks.keys() & set(ids) or any(self._taken(session, key) for key in keys):
            raise TakenError
        for task in tasks:
            self.numbers += 1
            self.tasks[task.id] = ModelTask(self.numbers, session, task, priority, max_retries, times=times)
            for key in task.expected_output_keys:
                if self._of(session, key, parent):
                    self.results[session, key].owner = task.id
        self.results |= {(session, key): ModelResult(owner) for owner, key in announced}
        self._fail_waiting()
        self._fail_for([self.tasks[each] for each in ids if self._lacks_for_good(self.tasks[each])])

    def _taken(self, session: str, key: str) -> bool:
        """Whether a key is a result already, other than one that a client has created and nobody has uploaded."""
        result = self.results.get((session, key))
        return result is not None and (result.owner is not None or result.status is not ResultStatus.CREATED)

    def _of(self, session: str, key: str, parent: str | None) -> bool:
        """Whether a key is one of the parent's, which passes to the sub-task that names it."""
        return parent is not None and key in self.tasks[parent].submitted.expected_output_keys

    def _complete(self, task_id: str, how: Ok) -> None:
        task = self.tasks[task_id]
        if how.sub_tasks:
            self._create(task.session, how.sub_tasks, 50, 1, parent=task_id)
        for key in how.sends:
            self.results[task.session, key].status = ResultStatus.COMPLETED
        self.move(task_id, TaskStatus.COMPLETED)
        self._abort_outputs([task_id])

    def _abort_outputs(self, ids: Iterable[str]) -> None:
        owners = set(ids)
        for result in self.results.values():
            if result.owner in owners and not result.status.final:
                result.status = ResultStatus.ABORTED
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        for task_id, task in self.tasks.items():
            if task.status is TaskStatus.SUBMITTED and self._wants_aborted(task):
                self.move(task_id, TaskStatus.ERROR)
                task.for_want_of_input = True
                self._abort_outputs([task_id])
                return
