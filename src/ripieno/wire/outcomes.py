"""Conversion of agents' reports (outcomes, tickets, data) between messages and domain."""

from typing import cast

from ripieno.domain.data import Data, ObjectDirectory, StoredObject
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.outcomes import (
    FAILURE_VALUE_LIMIT_BYTES,
    Cancelled,
    Completed,
    Completions,
    Failed,
    Failure,
    Outcome,
    SubTasks,
    Ticket,
)
from ripieno.domain.output import LARGEST_OUTPUT_LIMIT_BYTES, AttemptOutput
from ripieno.domain.submission import NewTask
from ripieno.wire.options import options_from_wire
from ripieno.wire.protos.v1 import agent_pb2

FAILURES = {
    agent_pb2.Outcome.Failed.ATTEMPT: Failure.ATTEMPT,
    agent_pb2.Outcome.Failed.TIMEOUT: Failure.TIMEOUT,
    agent_pb2.Outcome.Failed.OUTPUT: Failure.OUTPUT,
}

#: Part of the reason for a value that only a newer agent can have sent. The attempt counts as failed.
_NEWER = "this version of the control plane does not know; upgrade it before its agents"

#: The largest number of bytes that is stored as left out.
_MOST_LEFT_OUT = 2**62

#: Longest reason in characters; the store keeps it with the attempt. The middle of a longer one is cut out.
LONGEST_DETAIL = 16_000


def ticket_from_wire(message: agent_pb2.Ticket) -> Ticket:
    """Decode a ticket."""
    return Ticket(message.task_no, message.session_no, message.claim)


def ticket_to_wire(ticket: Ticket) -> agent_pb2.Ticket:
    """Encode a ticket."""
    return agent_pb2.Ticket(task_no=ticket.task_no, session_no=ticket.session_no, claim=ticket.claim)


def data_from_wire(message: agent_pb2.Data) -> Data:
    """Decode data: a reference to the object store or inline bytes; unset means empty bytes."""
    if message.WhichOneof("where") == "object":
        return stored_from_wire(message.object)
    return message.inline


def data_to_wire(data: Data) -> agent_pb2.Data:
    """Encode data: a reference to the object store or inline bytes."""
    if isinstance(data, StoredObject):
        return agent_pb2.Data(object=stored_to_wire(data))
    return agent_pb2.Data(inline=data)


def stored_to_wire(stored: StoredObject) -> agent_pb2.StoredObject:
    """Encode a reference to the object store."""
    return agent_pb2.StoredObject(name=stored.name, size=stored.size, sha256=stored.sha256)


def stored_from_wire(message: agent_pb2.StoredObject) -> StoredObject:
    """Decode a reference to the object store."""
    return StoredObject(message.name, message.size, message.sha256)


def directory_from_wire(message: agent_pb2.ObjectDirectory) -> ObjectDirectory | None:
    """Decode the directory where agents may write objects; None if there is none."""
    return ObjectDirectory(message.path, message.proof_file, message.proof) if message.path else None


def directory_to_wire(directory: ObjectDirectory) -> agent_pb2.ObjectDirectory:
    """Encode the directory where agents may write objects."""
    return agent_pb2.ObjectDirectory(path=directory.path, proof_file=directory.proof_file, proof=directory.proof)


def output_to_wire(output: AttemptOutput) -> agent_pb2.AttemptOutput:
    """Encode what an attempt printed."""
    return agent_pb2.AttemptOutput(
        stdout=output.stdout,
        stderr=output.stderr,
        stdout_left_out=output.stdout_left_out,
        stderr_left_out=output.stderr_left_out,
    )


def output_from_wire(message: agent_pb2.AttemptOutput) -> AttemptOutput:
    """Decode what an attempt printed; of more than may be kept of an attempt, the end."""
    left_out = (min(message.stdout_left_out, _MOST_LEFT_OUT), min(message.stderr_left_out, _MOST_LEFT_OUT))
    return AttemptOutput(message.stdout, message.stderr, *left_out).cut(LARGEST_OUTPUT_LIMIT_BYTES)


def outcome_from_wire(message: agent_pb2.Outcome) -> Outcome:
    """Decode an outcome.

    If sub-tasks have options that break a rule (the agent should have refused them), the outcome
    becomes a final failure that says so.
    """
    try:
        how = _how(message)
    except InvalidRequestError as error:
        how = Failed(Failure.OUTPUT, error.detail)
    return Outcome(
        ticket=ticket_from_wire(message.ticket),
        how=how,
        started_at_us=message.started_at_us,
        worker=storable(message.worker),
        output=output_from_wire(message.output) if message.HasField("output") else None,
    )


def completions_from_wire(message: agent_pb2.Completions) -> Completions:
    """Decode completions; their columns then have matching lengths.

    Raises:
        InvalidRequestError: if columns differ in length, or there are not as many results as the counts say.
    """
    columns = Completions(
        list(message.task_nos),
        list(message.session_nos),
        list(message.claims),
        list(message.started_at_us),
        list(message.workers),
        list(message.result_counts),
        list(message.keys),
        list(message.data),
        {claim: output_from_wire(output) for claim, output in message.outputs.items()} if message.outputs else {},
    )
    count, results = len(columns), sum(columns.result_counts)
    for name, column, length in (
        ("session_nos", columns.session_nos, count),
        ("claims", columns.claims, count),
        ("started_at_us", columns.started_at_us, count),
        ("workers", columns.workers, count),
        ("result_counts", columns.result_counts, count),
        ("keys", columns.keys, results),
        ("data", columns.data, results),
    ):
        if len(column) != length:
            raise InvalidRequestError(f"completions.{name}", f"has {len(column)} entries instead of {length}")
    for place, worker in enumerate(columns.workers):
        columns.workers[place] = storable(worker)
    return columns


def completions_to_wire(columns: Completions, message: agent_pb2.Completions) -> None:
    """Encode completions, all with inline results, into an empty message; others have to be sent as outcomes."""
    message.task_nos.extend(columns.task_nos)
    message.session_nos.extend(columns.session_nos)
    message.claims.extend(columns.claims)
    message.started_at_us.extend(columns.started_at_us)
    message.workers.extend(columns.workers)
    message.result_counts.extend(columns.result_counts)
    message.keys.extend(columns.keys)
    message.data.extend(cast(list[bytes], columns.data))
    for claim, output in columns.outputs.items():
        message.outputs[claim].CopyFrom(output_to_wire(output))


def failure_value(value: bytes) -> bytes | None:
    """Return what a worker attached to a failure; None if it is longer than ``FAILURE_VALUE_LIMIT_BYTES``."""
    return value if len(value) <= FAILURE_VALUE_LIMIT_BYTES else None


def storable(text: str) -> str:
    """Return a worker's text as PostgreSQL can hold it: NULs replaced, the middle of a long one cut out."""
    if len(text) > LONGEST_DETAIL:
        half = LONGEST_DETAIL // 2
        text = f"{text[:half]} [...] {text[-half:]}"
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _how(message: agent_pb2.Outcome) -> Completed | Failed | Cancelled:
    kind = message.WhichOneof("how")
    if kind == "completed":
        completed = message.completed
        return Completed(
            [(result.key, data_from_wire(result.data)) for result in completed.results],
            [_sub_tasks(batch) for batch in completed.sub_tasks] if completed.sub_tasks else (),
        )
    if kind == "failed":
        detail = storable(message.failed.detail)
        value = failure_value(message.failed.value) if message.failed.HasField("value") else None
        if (failure := FAILURES.get(message.failed.reason)) is None:
            return Failed(Failure.ATTEMPT, f"{detail} (for a reason, {message.failed.reason}, that {_NEWER})", value)
        return Failed(failure, detail, value)
    if kind == "cancelled":
        return Cancelled()
    return Failed(Failure.ATTEMPT, f"the attempt ended in a way that {_NEWER}")


def _sub_tasks(batch: agent_pb2.SubTasks) -> SubTasks:
    options = options_from_wire("sub_tasks.options", batch.options) if batch.HasField("options") else None
    tasks = [
        NewTask(task.id, list(task.expected_output_keys), list(task.data_dependencies), data_from_wire(task.payload))
        for task in batch.tasks
    ]
    return SubTasks(options, tasks)
