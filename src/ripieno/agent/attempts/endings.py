"""Writes the ends of attempts as messages, and measures, filters and splits such messages. Pure functions.

The control plane takes every message made here: a reason is cut to ``REASON_LIMIT_BYTES``, and an
outcome beyond ``MAX_OUTCOME_BYTES`` becomes a final failure that says so.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from ripieno.agent.attempts.attempt import Attempt
from ripieno.agent.conversation.gathering import MAX_OUTCOME_BYTES
from ripieno.domain.data import Data, StoredObject
from ripieno.domain.outcomes import Completed, Failed, Failure, SubTasks
from ripieno.domain.texts import reason
from ripieno.wire.options import options_to_wire
from ripieno.wire.outcomes import completions_from_wire, completions_to_wire, output_to_wire
from ripieno.wire.protos.v1 import agent_pb2

AgentMessage = agent_pb2.AgentMessage
Outcome = agent_pb2.Outcome

#: Deadlines are not among them: the control plane notices those.
_REASONS = {
    Failure.ATTEMPT: Outcome.Failed.ATTEMPT,
    Failure.TIMEOUT: Outcome.Failed.TIMEOUT,
    Failure.OUTPUT: Outcome.Failed.OUTPUT,
}


class Ticketed(Protocol):
    """Anything that names an attempt: an ``Attempt``, or a ticket alone."""

    @property
    def task_no(self) -> int: ...

    @property
    def session_no(self) -> int: ...

    @property
    def claim(self) -> int: ...


def outcome_of(attempt: Attempt, how: Completed | Failed | None) -> Outcome:
    """Write an attempt's end as an outcome of at most ``MAX_OUTCOME_BYTES`` and what it printed.

    ``how`` None means cancelled.
    """
    outcome = Outcome(started_at_us=attempt.started_at_us, worker=attempt.worker)
    put_ticket(outcome.ticket, attempt)
    if how is None:
        outcome.cancelled.SetInParent()
    elif isinstance(how, Failed):
        _put_failure(outcome, how)
    else:
        _put_completed(outcome.completed, how)
        if (size := outcome.ByteSize()) > MAX_OUTCOME_BYTES:
            detail = (
                f"the outcome has {size} bytes, more than one commit takes ({MAX_OUTCOME_BYTES});"
                " create fewer sub-tasks at once, and let them create the others"
            )
            return outcome_of(attempt, Failed(Failure.OUTPUT, detail))
    if attempt.output is not None:
        outcome.output.CopyFrom(output_to_wire(attempt.output))
    return outcome


def put_ticket(ticket: agent_pb2.Ticket, named: Ticketed) -> None:
    """Fill a ticket with the numbers that name an attempt."""
    ticket.task_no = named.task_no
    ticket.session_no = named.session_no
    ticket.claim = named.claim


def ended(message: AgentMessage) -> int:
    """Count the attempts whose end a message tells."""
    return len(message.outcomes) + len(message.completions.task_nos)


def tickets_of(message: AgentMessage) -> list[agent_pb2.Ticket]:
    """Return the tickets of the attempts whose end a message tells."""
    columns = message.completions
    return [outcome.ticket for outcome in message.outcomes] + [
        agent_pb2.Ticket(task_no=task_no, session_no=session_no, claim=claim)
        for task_no, session_no, claim in zip(columns.task_nos, columns.session_nos, columns.claims, strict=True)
    ]


def without(message: AgentMessage, claims: Set[int]) -> AgentMessage:
    """Return a message without the ends of attempts with these claims; the same object if it has none of them."""
    outcomes = [outcome for outcome in message.outcomes if outcome.ticket.claim not in claims]
    same_columns = claims.isdisjoint(message.completions.claims)
    if same_columns and len(outcomes) == len(message.outcomes):
        return message
    # A new message is built, because one changed in place keeps the removed parts in memory (see wire.arenas).
    left = _rest(message)
    left.outcomes.extend(outcomes)
    if same_columns:
        left.completions.CopyFrom(message.completions)
    else:
        completions_to_wire(completions_from_wire(message.completions).without(claims), left.completions)
    return left


def halves(message: AgentMessage, refusal: str) -> list[AgentMessage]:
    """Split a message that was refused for its size into smaller ones with the same contents.

    The end of a single attempt cannot be split: it becomes a final failure that gives the reason, without
    what the attempt printed.

    Args:
        message: A message that tells the end of at least one attempt.
        refusal: The text with which it was refused.
    """
    claims = [outcome.ticket.claim for outcome in message.outcomes] + list(message.completions.claims)
    if len(claims) > 1:
        first, second = set(claims[: len(claims) // 2]), set(claims[len(claims) // 2 :])
        rest = without(message, first)
        told_once = AgentMessage(outcomes=rest.outcomes, completions=rest.completions)
        return [without(message, second), told_once]
    columns = message.completions
    former = (
        message.outcomes[0]
        if message.outcomes
        else Outcome(ticket=tickets_of(message)[0], started_at_us=columns.started_at_us[0], worker=columns.workers[0])
    )
    failure = Outcome(
        ticket=former.ticket,
        started_at_us=former.started_at_us,
        worker=former.worker,
    )
    detail = f"its outcome of {message.ByteSize()} bytes does not fit one message to the control plane: {refusal}"
    _put_failure(failure, Failed(Failure.OUTPUT, detail))
    left = _rest(message)
    left.outcomes.append(failure)
    return [left]


def _rest(message: AgentMessage) -> AgentMessage:
    """Copy a message without the ends of attempts."""
    return AgentMessage(
        credit=message.credit,
        credit_revoked=message.credit_revoked,
        draining=message.draining,
        started=message.started,
        released=message.released,
        interrupting=message.interrupting,
        outcomes_no=message.outcomes_no,
    )


def _put_failure(outcome: Outcome, how: Failed) -> None:
    outcome.failed.reason = _REASONS[how.failure]
    outcome.failed.detail = reason(how.detail)
    if how.value is not None:
        outcome.failed.value = how.value


def _put_completed(completed: Outcome.Completed, how: Completed) -> None:
    completed.SetInParent()
    for key, data in how.results:
        result = completed.results.add()
        result.key = key
        _put_data(result.data, data)
    for batch in how.sub_tasks:
        _put_sub_tasks(completed.sub_tasks.add(), batch)


def _put_data(message: agent_pb2.Data, data: Data) -> None:
    if isinstance(data, StoredObject):
        stored = message.object
        stored.name, stored.size, stored.sha256 = data.name, data.size, data.sha256
    else:
        message.inline = data


def _put_sub_tasks(message: agent_pb2.SubTasks, batch: SubTasks) -> None:
    if batch.options is not None:
        message.options.CopyFrom(options_to_wire(batch.options))
    for task in batch.tasks:
        sub_task = message.tasks.add(
            id=task.id, expected_output_keys=task.expected_output_keys, data_dependencies=task.data_dependencies
        )
        _put_data(sub_task.payload, task.payload)
