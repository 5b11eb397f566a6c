"""Agents and their leases.

The replica that an agent is connected to renews its lease. A lease that has run out means
that the agent is lost: what it held is rescued (``expired``), and the fence refuses what it
may still send.
"""

from collections.abc import Sequence
from uuid import UUID

from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database import Database
from ripieno.store.queries import Queries

_SQL = Queries("agents")


async def register_agent(
    database: Database,
    agent_id: UUID,
    *,
    name: str,
    slots: int,
    partitions: Sequence[str],
    version: str,
    lease_s: float,
) -> int:
    """Give an agent a lease, and the number it is known by; the same number after a reconnect."""
    row = await database.fetchrow(_SQL.register, agent_id, name, slots, partitions, version, lease_s)
    assert row is not None  # it either inserts or updates
    number: int = row["agent_no"]
    return number


async def renew_leases(database: Database, agents: Sequence[int], lease_s: float) -> None:
    """Extend the leases of connected agents to ``lease_s`` from now."""
    await database.fetch(_SQL.renew, agents, lease_s)


async def held_by(database: Database, agent_no: int) -> list[Ticket]:
    """What the store says that an agent holds."""
    rows = await database.fetch(_SQL.held, agent_no)
    return [Ticket(row["task_no"], row["session_no"], row["claim"]) for row in rows]


async def held_for_a_while(database: Database, agents: Sequence[int]) -> list[tuple[int, Ticket]]:
    """What the store says that these agents have held for some seconds, with the agent's number."""
    rows = await database.fetch(_SQL.held_for_a_while, agents)
    return [(row["agent_no"], Ticket(row["task_no"], row["session_no"], row["claim"])) for row in rows]


async def check_held(database: Database, agent_no: int, held: Sequence[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
    """Of the tickets that an agent says it holds, those lost and those being cancelled."""
    rows = await database.fetch(
        _SQL.still_owned, [ticket.task_no for ticket in held], [ticket.claim for ticket in held], agent_no
    )
    status = {(row["task_no"], row["claim"]): row["status"] for row in rows}
    lost = [ticket for ticket in held if (ticket.task_no, ticket.claim) not in status]
    cancelled = [ticket for ticket in held if status.get((ticket.task_no, ticket.claim)) == TaskStatus.CANCELLING]
    return lost, cancelled


async def expired_attempts(database: Database, limit: int) -> list[tuple[Ticket, str]]:
    """Attempts held by agents whose lease has run out, with the agent's name."""
    rows = await database.fetch(_SQL.expired, limit)
    return [(Ticket(row["task_no"], row["session_no"], row["claim"]), row["name"]) for row in rows]


async def forget_agents(database: Database) -> None:
    """Remove agents that have been gone for a day and hold nothing."""
    await database.fetch(_SQL.forget)
