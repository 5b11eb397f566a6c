"""Confirmations of cancellations that agents have yet to give.

A cancellation is confirmed for an attempt when its agent has said that the attempt has ended,
or that it had begun and is being interrupted (its start is known then). The table of states
keeps this, whoever cancelled and whether or not that caller is still connected.
"""

from collections.abc import Sequence

from ripieno.domain.outcomes import Ticket
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries

_SQL = Queries("confirmations")


async def unconfirmed_in_sessions(database: Database, sessions: Sequence[int]) -> int:
    """Return how many cancelled attempts of these sessions might still begin."""
    [row] = await database.fetch(_SQL.unconfirmed_in_sessions, sessions)
    count: int = row["attempts"]
    return count


async def unconfirmed_of_tasks(database: Database, tasks: Sequence[int]) -> int:
    """Return how many cancelled attempts of these tasks might still begin."""
    [row] = await database.fetch(_SQL.unconfirmed_of_tasks, tasks)
    count: int = row["attempts"]
    return count


async def cancelling_at(database: Database, agents: Sequence[int]) -> dict[int, list[Ticket]]:
    """Return the attempts of agents that are being cancelled, by the number of the agent."""
    held: dict[int, list[Ticket]] = {}
    for row in await database.fetch(_SQL.cancelling_at, agents):
        ticket = Ticket(row["task_no"], row["session_no"], row["claim"])
        held.setdefault(row["agent_no"], []).append(ticket)
    return held
