"""The plan of a commit: how each attempt ends, given what its task has become, and what that changes. No I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from ripieno.domain.data import Data, StoredObject
from ripieno.domain.outcomes import Cancelled, Completed, Failed, Failure, Outcome
from ripieno.domain.statuses import TAKES_TASKS, SessionStatus, TaskStatus
from ripieno.store.graph.creation import Key, PlannedTask
from ripieno.store.sessions.sessions import KnownOptions


class Ended(NamedTuple):
    """An attempt whose claim owns its task, and how the attempt ends."""

    outcome: Outcome
    how: Completed | Failed | Cancelled
    row: asyncpg.Record

    @property
    def task_no(self) -> int:
        number: int = self.row["task_no"]
        return number

    @property
    def paused(self) -> bool:
        """Whether the session is paused, so that no agent is given what becomes claimable."""
        return bool(self.row["session_status"] == SessionStatus.PAUSED)

    @property
    def retried(self) -> bool:
        """Whether another attempt of the task follows."""
        return (
            isinstance(self.how, Failed) and self.how.failure.may_retry and self.row["retry"] < self.row["max_retries"]
        )

    @property
    def status(self) -> TaskStatus:
        """The status in which this attempt ends."""
        match self.how:
            case Completed():
                return TaskStatus.COMPLETED
            case Failed(failure=failure):
                return failure.status
            case Cancelled():
                return TaskStatus.CANCELLED


@dataclass(slots=True)
class Plan:
    """The changes that one flush is going to write."""

    ended: Sequence[Ended]
    produced: dict[Key, tuple[int, Data]] = field(default_factory=dict)
    sub_tasks: list[PlannedTask] = field(default_factory=list)
    #: Tasks whose open outputs are aborted.
    aborting: list[int] = field(default_factory=list)
    touched: set[Key] = field(default_factory=set)


def plan_of(ended: Sequence[Ended], options: Mapping[tuple[int, int], KnownOptions]) -> Plan:
    """Return the changes that these ends of attempts make; sub-tasks have no numbers yet.

    Args:
        ended: The attempts, each with how it ends.
        options: Stored options of each batch of sub-tasks, by task number and place of the batch.
    """
    plan = Plan(ended)
    for each in ended:
        if isinstance(each.how, Completed):
            _add_completed(plan, each, each.how, options)
        elif not each.retried and each.row["status"] != TaskStatus.CANCELLING:  # whose outputs are aborted already
            plan.aborting.append(each.task_no)
            plan.touched |= {(each.row["session_no"], key) for key in each.row["expected_output_keys"]}
    return plan


def _add_completed(plan: Plan, each: Ended, how: Completed, options: Mapping[tuple[int, int], KnownOptions]) -> None:
    session_no = each.row["session_no"]
    own_keys = frozenset(each.row["expected_output_keys"])
    left = set(own_keys)
    for key, data in how.results:
        plan.produced[session_no, key] = (each.task_no, data)
        left.discard(key)
    for place, batch in enumerate(how.sub_tasks):
        known = options[each.task_no, place]
        for task in batch.tasks:
            delegated = own_keys.intersection(task.expected_output_keys)
            left -= delegated
            plan.sub_tasks.append(PlannedTask(0, session_no, known, task, each.task_no, delegated, each.paused))
    if left:
        plan.aborting.append(each.task_no)  # it completed without producing them
    if left or how.sub_tasks:
        plan.touched |= {(session_no, key) for key in own_keys}


def judged(outcome: Outcome, row: asyncpg.Record) -> Completed | Failed | Cancelled:
    """Return how an attempt ends, given its outcome and the present status of task and session."""
    if row["status"] == TaskStatus.CANCELLING:
        # A task that is being ended at its deadline has the reason already.
        return Cancelled() if row["detail"] is None else Failed(Failure.DEADLINE, row["detail"])
    if isinstance(outcome.how, Cancelled):
        return Failed(Failure.ATTEMPT, "its agent reported it as cancelled, but nobody had cancelled it")
    if isinstance(outcome.how, Completed):
        if outcome.how.sub_tasks and row["session_status"] == SessionStatus.CANCELLED:
            return Cancelled()  # nothing is submitted to a cancelled session; its cancellation reaches the task later
        if outcome.how.sub_tasks and (why := _refused(row)):
            return Failed(Failure.OUTPUT, f"its sub-tasks were refused: {why}")  # for good: no other attempt follows
        own_keys = row["expected_output_keys"]
        foreign = {key for key, _ in outcome.how.results}.difference(own_keys)
        if foreign:
            return Failed(Failure.ATTEMPT, f"results {sorted(foreign)} are not expected outputs of the task")
        if outcome.how.sub_tasks and (doubled := _given_twice(outcome.how, frozenset(own_keys))):
            return Failed(Failure.ATTEMPT, f"results {doubled} were sent or delegated more than once")
    return outcome.how


def _refused(row: asyncpg.Record) -> str:
    """Return why the session of a task takes no sub-tasks; empty if it does."""
    status = SessionStatus(row["session_status"])
    if status not in TAKES_TASKS:
        return f"the session is {status.name}, and takes no more tasks"
    return "" if row["worker_submission"] else "the session takes no more tasks of workers"


def _given_twice(how: Completed, own_keys: frozenset[str]) -> list[str]:
    """Return the keys that an outcome sends and delegates, or delegates twice."""
    given = Counter(key for key, _ in how.results)
    for batch in how.sub_tasks:
        for task in batch.tasks:
            given.update(own_keys.intersection(task.expected_output_keys))
    return sorted(key for key, times in given.items() if times > 1)


def may_conflict(outcome: Outcome) -> bool:
    """Whether sub-tasks of an outcome can clash with existing tasks, or its large data can be gone."""
    return isinstance(outcome.how, Completed) and (
        bool(outcome.how.sub_tasks) or any(isinstance(data, StoredObject) for _, data in outcome.how.results)
    )


def ended_columns(ended: Sequence[Ended]) -> tuple[list[int], list[int], list[str | None], list[str], list[int]]:
    return (
        [each.task_no for each in ended],
        [each.status for each in ended],
        [each.how.detail if isinstance(each.how, Failed) else None for each in ended],
        [each.outcome.worker for each in ended],
        [each.outcome.started_at_us for each in ended],
    )
