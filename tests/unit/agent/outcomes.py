"""Outcomes as a test reads them, whichever of the two forms they travelled in."""

from ripieno.domain.outcomes import Completed, Outcome
from ripieno.wire.outcomes import completions_from_wire, data_to_wire, output_to_wire, ticket_to_wire
from ripieno.wire.protos.v1 import agent_pb2


def outcomes_of(message: agent_pb2.AgentMessage) -> list[agent_pb2.Outcome]:
    """A message's outcomes, and after them its completions with an ``Outcome`` each."""
    return [*message.outcomes, *map(_expanded, completions_from_wire(message.completions).outcomes())]


def _expanded(outcome: Outcome) -> agent_pb2.Outcome:
    message = agent_pb2.Outcome(
        ticket=ticket_to_wire(outcome.ticket), started_at_us=outcome.started_at_us, worker=outcome.worker
    )
    message.completed.SetInParent()
    assert isinstance(outcome.how, Completed)
    for key, data in outcome.how.results:
        message.completed.results.add(key=key, data=data_to_wire(data))
    if outcome.output is not None:
        message.output.CopyFrom(output_to_wire(outcome.output))
    return message
