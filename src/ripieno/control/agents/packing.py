"""Assignments as messages to agents: measured, cut into batches, and written as columns where they are plain."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from ripieno.domain.data import StoredObject
from ripieno.domain.options import TaskOptions
from ripieno.store.attempts.claim import Claimed
from ripieno.wire.outcomes import data_to_wire, ticket_to_wire
from ripieno.wire.protos.v1 import agent_pb2

#: Messages to agents are cut at about this size, so that neither end holds much at once.
LARGEST_MESSAGE_BYTES = 2 * 1024 * 1024

#: Estimated bytes of a number in a message: that of an outcome message, or of a session beside its id.
NUMBER_BYTES = 16


def size_of(task: Claimed) -> int:
    """Return about how many bytes a task takes in a message, without its options."""
    payload = task.payload
    size = 200 if isinstance(payload, StoredObject) else 200 + len(payload)
    for key in task.expected_output_keys:
        size += len(key)
    for key in task.data_dependencies:
        size += len(key)
    return size


def size_of_options(options: TaskOptions) -> int:
    """Return about how many bytes a set of options takes in a message."""
    return NUMBER_BYTES + sum([len(name) + len(value) for name, value in options.options.items()])


def batches(tasks: Sequence[Claimed], options: Mapping[int, TaskOptions]) -> Iterator[tuple[Sequence[Claimed], int]]:
    """Cut assignments into batches for one message each, which exceed the limit by their last task at most.

    Yields:
        The tasks of a batch, and their size in bytes without the options.
    """
    start, size, options_size = 0, 0, 0
    told: set[int] = set()
    for place, task in enumerate(tasks):
        size += size_of(task)
        if task.options_no not in told:
            told.add(task.options_no)
            options_size += size_of_options(options[task.options_no])
        if size + options_size > LARGEST_MESSAGE_BYTES:
            yield tasks[start : place + 1], size
            start, size, options_size = place + 1, 0, 0
            told.clear()
    if start < len(tasks):
        yield tasks[start:], size


def put_plain(message: agent_pb2.PlainAssignments, tasks: Sequence[Claimed]) -> None:
    """Append tasks with inline payloads and without dependencies to a message, column by column."""
    tickets = [task.ticket for task in tasks]
    message.task_nos.extend([ticket.task_no for ticket in tickets])
    message.session_nos.extend([ticket.session_no for ticket in tickets])
    message.claims.extend([ticket.claim for ticket in tickets])
    message.task_ids.extend([task.task_id for task in tasks])
    message.retries.extend([task.retry for task in tasks])
    message.options_nos.extend([task.options_no for task in tasks])
    message.payloads.extend([cast(bytes, task.payload) for task in tasks])
    message.output_counts.extend([len(task.expected_output_keys) for task in tasks])
    message.expected_output_keys.extend([key for task in tasks for key in task.expected_output_keys])


def assignment_to_wire(task: Claimed) -> agent_pb2.Assignment:
    """Return the message for a task that is not plain: with dependencies, or with its payload in the object store."""
    return agent_pb2.Assignment(
        ticket=ticket_to_wire(task.ticket),
        task_id=task.task_id,
        retry=task.retry,
        options_no=task.options_no,
        expected_output_keys=task.expected_output_keys,
        data_dependencies=task.data_dependencies,
        payload=data_to_wire(task.payload),
    )
