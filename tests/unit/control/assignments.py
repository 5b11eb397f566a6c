"""Assignments as a test reads them, whichever of the two forms they travel in."""

from itertools import islice

from ripieno.wire.protos.v1 import agent_pb2


def assignments_of(message: agent_pb2.ControlMessage) -> list[agent_pb2.Assignment]:
    """A message's assignments, and after them its plain ones with an ``Assignment`` each."""
    plain = message.plain
    keys = iter(plain.expected_output_keys)
    expanded = [
        agent_pb2.Assignment(
            ticket=agent_pb2.Ticket(task_no=task_no, session_no=session_no, claim=claim),
            task_id=task_id,
            retry=retry,
            options_no=options_no,
            expected_output_keys=list(islice(keys, outputs)),
            payload=agent_pb2.Data(inline=payload),
        )
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
        )
    ]
    assert next(keys, None) is None
    return [*message.assignments, *expanded]
