"""Sentences: each reason of an explanation in one plain sentence that ends with the way out."""

import shlex
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from ripieno.domain.explanations import (
    KINDS,
    MOST_AHEAD,
    About,
    Cancelled,
    Cancelling,
    Deadline,
    Done,
    Failed,
    HandedOver,
    InputFailed,
    MissingInput,
    NotServed,
    OutputMissing,
    Reason,
    Running,
    SessionStands,
    WaitsForInputs,
    WaitsForSlot,
    WaitsForTime,
)
from ripieno.domain.statuses import ResultStatus, SessionStatus, TaskStatus
from ripieno.domain.texts import gist

_KIND_OF = {about: kind for kind, about in KINDS.items()}
#: Inputs and partitions that a sentence names; the data of the reason has more.
_NAMED = 3


def reason(task_id: str, about: About) -> Reason:
    """Put what a reason of this task is about into words."""
    return Reason(_KIND_OF[type(about)], _WORDS[type(about)](task_id, about), about)


def length(time: timedelta) -> str:
    """Return a length of time in words: ``350 ms``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    seconds = max(time.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, below, of, name, smaller in (
        (1, 60, 1, "s", ""),
        (60, 3_600, 1, "min", "s"),
        (3_600, 86_400, 60, "h", "min"),
    ):
        if whole < below:
            rest = whole % unit // of
            return f"{whole // unit} {name}" + (f" {rest} {smaller}" if rest else "")
    hours = whole % 86_400 // 3_600
    return f"{whole // 86_400} d" + (f" {hours} h" if hours else "")


def partition_name(partition: str) -> str:
    """Return a partition as people read it."""
    return f"partition {partition!r}" if partition else "the default partition"


def _command(*words: str) -> str:
    return f"`ripieno {shlex.join(words)}`"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _input(missing: MissingInput) -> str:
    if missing.status is ResultStatus.NAMED:
        return f"{missing.key!r} (no task has announced it)"
    if not missing.task_id:
        word = "is to upload it" if missing.status is ResultStatus.CREATED else "has not uploaded it, and will not"
        return f"{missing.key!r} (a client {word})"
    status = missing.task_status.name if missing.task_status is not None else "gone"
    return f"{missing.key!r} (task {missing.task_id!r} makes it, which is {status})"


def _waits_for_inputs(_task_id: str, about: WaitsForInputs) -> str:
    if not about.inputs:
        return "All its inputs have come, and it is about to become claimable; ask again in a moment."
    named = ", ".join(_input(each) for each in about.inputs[:_NAMED])
    more = f" and {about.missing - _NAMED:,} more" if about.missing > _NAMED else ""
    owned = [each for each in about.inputs if each.task_id]
    orphans = [each for each in about.inputs if each.status is ResultStatus.NAMED]
    uploads = [each for each in about.inputs if not each.task_id and each.status is ResultStatus.CREATED]
    if owned:
        way = f"{_command('explain', owned[0].task_id)} says what that task waits for"
    elif orphans:
        way = f"submit a task that has {orphans[0].key!r} among its expected outputs"
    elif uploads:
        way = f"upload the data of {uploads[0].key!r}"
    else:
        way = "it is about to fail for want of it"
    return f"It waits for {_count(about.missing, 'input')}: {named}{more}; {way}."


def _input_failed(_task_id: str, about: InputFailed) -> str:
    root = about.chain[-1]
    links = [f"input {link.input!r} was not made" for link in about.chain[:1]]
    links += [f"task {link.task_id!r} failed for want of {link.input!r}" for link in about.chain[1:-1]]
    if about.left_out:
        links.append("and so on")
    told = ": ".join(links)
    if about.retried_since:
        return (
            f"It failed without running: {told}: task {root.task_id!r} failed, and was retried since; "
            f"{_command('task', 'retry', root.task_id)} brings back what failed because of it once it fails again."
        )
    attempts = f" after {_count(about.attempts_total, 'attempt')}" if about.attempts_total else ""
    why = gist(about.reason) or "no reason given"
    if root.status is TaskStatus.COMPLETED:
        return (
            f"It failed without running: {told}: task {root.task_id!r} completed without making it; "
            "submit a task that does."
        )
    if root.status is TaskStatus.CANCELLED:
        return f"It failed without running: {told}: task {root.task_id!r} was cancelled; submit both again in a new session."
    return (
        f"It failed without running: {told}: task {root.task_id!r} ended in {root.status.name}{attempts}: {why}; "
        f"{_command('task', 'retry', root.task_id)} runs that one again, and then this one."
    )


def _not_served(_task_id: str, about: NotServed) -> str:
    names = [(each and repr(each)) or "the default one" for each in about.served[:_NAMED]]
    more = f" and {len(about.served) - _NAMED} more" if len(about.served) > _NAMED else ""
    served = f"served: {', '.join(names)}{more}" if names else "no agent is connected at all"
    words = ["agent", "--partition", about.partition] if about.partition else ["agent"]
    return f"No agent serves {partition_name(about.partition)} ({served}); start one with {_command(*words)}."


def _waits_for_slot(_task_id: str, about: WaitsForSlot) -> str:
    where = partition_name(about.partition)
    slots = _count(about.slots, "slot")
    if about.busy < about.slots and not about.ahead:
        return (
            f"It is the next of {where}, where {about.slots - about.busy:,} of {slots} are free; ask again in a moment."
        )
    if about.ahead >= MOST_AHEAD:
        ahead = f"at least {MOST_AHEAD:,} tasks come before it"
    elif not about.ahead:
        ahead = "it is the next"
    else:
        ahead = f"{_count(about.ahead, 'task')} come{'s' if about.ahead == 1 else ''} before it"
    busy = f"all {slots} of {where} are busy" if about.slots != 1 else f"the only slot of {where} is busy"
    if about.busy < about.slots:
        busy = f"{about.busy:,} of {slots} of {where} are busy"
    return f"It waits for its turn: {busy}, and {ahead}; more agents, or a higher priority, shorten the wait."


def _waits_for_time(_task_id: str, about: WaitsForTime) -> str:
    what = f"Attempt {about.attempt} of it begins after a pause" if about.attempt else "It waits for its time"
    when = (
        f"from {_moment(about.until)} on, {length(about.left)} from now," if about.left > timedelta() else "from now on"
    )
    return f"{what}: {when} it may run; there is nothing to do but wait."


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def _session(_task_id: str, about: SessionStands) -> str:
    name = about.session_id
    match about.status:
        case SessionStatus.PAUSED:
            return f"Its session {name!r} is paused; {_command('session', 'resume', name)} goes on with it."
        case SessionStatus.CANCELLED:
            return f"Its session {name!r} was cancelled; submit the task again in a new session."
        case SessionStatus.PURGED:
            return f"Its session {name!r} was purged, and its data is gone; submit the task again in a new session."
        case _:
            return (
                f"Its session {name!r} is closed and takes no more tasks, so nobody can announce what is missing; "
                f"{_command('session', 'cancel', name)} ends what waits."
            )


def _at(worker: str, agent: str) -> str:
    """Return where something runs; empty for an attempt of long ago, whose agent is forgotten."""
    on = f" on worker {worker!r}" if worker else ""
    return on + (f" of agent {agent!r}" if agent else "")


def _silent(agent: str, connected: bool) -> str:
    return "" if connected else f" (agent {agent!r} is silent: once it counts as lost the task goes to another one)"


def _handed_over(_task_id: str, about: HandedOver) -> str:
    return (
        f"Agent {about.agent!r} has had it for {length(about.lasted)} and no worker has begun it"
        f"{_silent(about.agent, about.agent_connected)}; it starts when a worker there is free and its inputs are fetched."
    )


def _running(task_id: str, about: Running) -> str:
    left = about.max_duration - about.lasted
    limit = f"in {length(left)}" if left > timedelta() else "now"
    return (
        f"It has run for {length(about.lasted)}{_at(about.worker, about.agent)}"
        f"{_silent(about.agent, about.agent_connected)}, and is stopped {limit} by its time limit of "
        f"{length(about.max_duration)}; {_command('task', 'logs', '--follow', task_id)} shows what it prints."
    )


def _deadline(_task_id: str, about: Deadline) -> str:
    when = f"at {_moment(about.at)}, {length(about.left)} from now" if about.left > timedelta() else "at any moment"
    return f"Its deadline ends it {when}, unless it is done by then; a retry after that begins a new one."


def _cancelling(_task_id: str, about: Cancelling) -> str:
    why = f"It is stopped since {gist(about.reason)}" if about.reason else "It was cancelled"
    return (
        f"{why}, and agent {about.agent!r} interrupts its worker"
        f"{_silent(about.agent, about.agent_connected)}; it is over in a few seconds."
    )


def _failed(task_id: str, about: Failed) -> str:
    why = gist(about.reason) or "no reason given"
    again = f"{_command('task', 'retry', task_id)} gives it another attempt"
    if about.by_deadline:
        return f"It was ended at its deadline: {why}; {again}, with a new deadline if that was set from its submission."
    if not about.attempts:
        return f"It failed without running: {why}; submit it again with inputs that exist."
    tries = "its only attempt" if about.attempts == 1 else f"the last of its {about.attempts:,} attempts"
    if about.status is TaskStatus.TIMEOUT:
        return (
            f"It timed out: {tries} did not end within its time limit of {length(about.max_duration)} ({why}); "
            f"{_command('task', 'retry', task_id, '--max-duration', 'SECONDS')} gives it another one with more time."
        )
    return (
        f"It failed: {tries} ended in {about.status.name}: {why}; "
        f"{_command('task', 'logs', task_id)} shows what it printed, and {again}."
    )


def _cancelled(_task_id: str, about: Cancelled) -> str:
    when = "while it ran" if about.ran else "before it ran"
    why = f" ({gist(about.reason)})" if about.reason and about.reason != "cancelled" else ""
    return f"It was cancelled {when}{why}, which is final; submit it again under another id."


def _done(_task_id: str, about: Done) -> str:
    took = f" in {length(about.duration)}" if about.duration is not None else ""
    return f"It completed{took}{_at(about.worker, about.agent)}; there is nothing to do."


def _output_missing(_task_id: str, about: OutputMissing) -> str:
    if about.status is ResultStatus.DELETED:
        how = "with all data of its session" if about.purged else "by a client"
        return f"The data of its output {about.key!r} was deleted {how}; submit the task again under another id to have it."
    if about.task_id:
        state = "will not make it" if about.status is ResultStatus.ABORTED else "has not made it yet"
        return (
            f"Its output {about.key!r} was passed to its sub-task {about.task_id!r}, which {state}; "
            f"{_command('explain', about.task_id)} says why."
        )
    return (
        f"It completed without making its output {about.key!r}; mend its handler and submit it again under another id."
    )


_WORDS: Mapping[type[Any], Callable[[str, Any], str]] = MappingProxyType(
    {
        WaitsForInputs: _waits_for_inputs,
        InputFailed: _input_failed,
        NotServed: _not_served,
        WaitsForSlot: _waits_for_slot,
        WaitsForTime: _waits_for_time,
        SessionStands: _session,
        HandedOver: _handed_over,
        Running: _running,
        Deadline: _deadline,
        Cancelling: _cancelling,
        Failed: _failed,
        Cancelled: _cancelled,
        Done: _done,
        OutputMissing: _output_missing,
    }
)
