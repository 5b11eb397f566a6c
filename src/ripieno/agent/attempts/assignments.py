"""Reads the assignments in a control plane's message into attempts.

An assignment that this agent cannot read (a newer control plane's, or a fault of ours) is named by its
ticket and given back; it affects neither the assignments beside it nor the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from ripieno.agent.attempts.attempt import Attempt, RunOptions
from ripieno.domain.data import Data
from ripieno.domain.identifiers import attempt_id
from ripieno.wire.outcomes import stored_from_wire
from ripieno.wire.protos.v1 import agent_pb2

ControlMessage = agent_pb2.ControlMessage

#: Errors raised while reading a message that refers to entries it lacks, or whose columns differ in length.
_UNREADABLE = (KeyError, ValueError, StopIteration)


def read_assignments(message: ControlMessage) -> tuple[list[Attempt], list[agent_pb2.Ticket]]:
    """Return the attempts that a message assigns, and the tickets of assignments that cannot be read."""
    sessions = {session.session_no: session.id for session in message.sessions}
    options = {
        entry.options_no: RunOptions(dict(entry.options), entry.max_duration_us / 1e6, entry.priority)
        for entry in message.options
    }
    attempts: list[Attempt] = []
    unreadable = []
    for assignment in message.assignments:
        try:
            attempts.append(_attempt(assignment, sessions, options))
        except _UNREADABLE:
            unreadable.append(assignment.ticket)
    plain = message.plain
    if plain.task_nos:
        try:
            attempts += _plain_attempts(plain, sessions, options)
        except _UNREADABLE:
            unreadable += [
                agent_pb2.Ticket(task_no=task_no, session_no=session_no, claim=claim)
                for task_no, session_no, claim in zip(plain.task_nos, plain.session_nos, plain.claims, strict=False)
            ]
    return attempts, unreadable


def _attempt(
    assignment: agent_pb2.Assignment, sessions: Mapping[int, str], options: Mapping[int, RunOptions]
) -> Attempt:
    ticket = assignment.ticket
    session_no = ticket.session_no
    task_id, retry = assignment.task_id, assignment.retry
    dependencies = assignment.data_dependencies
    payload: Data = assignment.payload.inline
    if not payload and assignment.payload.WhichOneof("where") == "object":
        payload = stored_from_wire(assignment.payload.object)
    return Attempt(
        ticket.task_no,
        session_no,
        ticket.claim,
        sessions[session_no],
        task_id,
        attempt_id(task_id, retry) if retry else task_id,
        options[assignment.options_no],
        list(assignment.expected_output_keys),
        list(dict.fromkeys(dependencies)) if dependencies else (),
        payload,
    )


def _plain_attempts(
    plain: agent_pb2.PlainAssignments, sessions: Mapping[int, str], options: Mapping[int, RunOptions]
) -> list[Attempt]:
    attempts = []
    keys = iter(plain.expected_output_keys)
    for task_no, session_no, claim, task_id, retry, options_no, payload, outputs in zip(
        plain.task_nos,
        plain.session_nos,
        plain.claims,
        plain.task_ids,
        plain.retries,
        plain.options_nos,
        plain.payloads,
        plain.output_counts,
        strict=True,
    ):
        attempts.append(
            Attempt(
                task_no,
                session_no,
                claim,
                sessions[session_no],
                task_id,
                attempt_id(task_id, retry) if retry else task_id,
                options[options_no],
                [next(keys)] if outputs == 1 else list(islice(keys, outputs)),
                (),
                payload,
            )
        )
    return attempts
