"""Agents and their leases.

The replica that an agent is connected to renews its lease: it counts up the renewals in the
agent's row. An agent whose count stands still for a lease, by the monotonic clock of an observer
that was awake all the while (``control.liveness``), is lost: what it held is rescued, and the
fence refuses what it may still send. No wall clock decides anything here; each machine's may be set at any time.

Each connection of an agent has an *epoch*. Only the latest one is renewed: a replica that still
has a former one learns so with its next renewal.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database import Connection, Database
from ripieno.store.queries import Queries

_SQL = Queries("agents")


class Registration(NamedTuple):
    """An agent, connected.

    Attributes:
        agent_no: The number it is known by; the same after a reconnect.
        epoch: Of this connection.
    """

    agent_no: int
    epoch: int


async def register_agent(
    database: Database,
    agent_id: UUID,
    *,
    name: str,
    slots: int,
    partitions: Sequence[str],
    version: str,
    lease_s: float,
    replica: int = 0,
) -> Registration:
    """Begin a connection of an agent, and its lease.

    Args:
        replica: Of the replica it is connected to (``introduce_replica``).
    """
    row = await database.fetchrow(_SQL.register, agent_id, name, slots, partitions, version, lease_s, replica)
    assert row is not None  # it either inserts or updates
    return Registration(row["agent_no"], row["epoch"])


async def introduce_replica(connection: Connection, replica: int) -> None:
    """Let others see, for as long as this session lives, that the replica of that number does."""
    await connection.execute(_SQL.introduce_replica, replica)


async def renew_leases(
    connection: Connection, connected: Mapping[int, int], lease_s: float, replica: int = 0
) -> set[int]:
    """Renew the leases of connected agents, each with the epoch of its connection.

    Returns:
        Those whose connection it is. The others have connected anew elsewhere.
    """
    rows = await connection.fetch(_SQL.renew, list(connected), list(connected.values()), lease_s, replica)
    return {row["agent_no"] for row in rows}


async def read_renewals(connection: Connection) -> dict[int, int]:
    """How often the lease of each agent that holds something was renewed."""
    return {row["agent_no"]: row["renewals"] for row in await connection.fetch(_SQL.renewals)}


async def without_replica(connection: Connection, agents: Sequence[int], own: int) -> set[int]:
    """Those of the agents whose latest replica has ended, or is the one that asks, of the number ``own``."""
    return {row["agent_no"] for row in await connection.fetch(_SQL.without_replica, agents, own)}


async def held_by_lapsed(database: Database, lapsed: Mapping[int, int], limit: int) -> list[tuple[Ticket, str]]:
    """Attempts of agents whose renewals still are what they were, with the agent's name."""
    rows = await database.fetch(_SQL.held_by_lapsed, list(lapsed), list(lapsed.values()), limit)
    return [(Ticket(row["task_no"], row["session_no"], row["claim"]), row["name"]) for row in rows]


async def held_by(database: Database, agent_no: int) -> list[Ticket]:
    """What the store says that an agent holds."""
    rows = await database.fetch(_SQL.held, agent_no)
    return [Ticket(row["task_no"], row["session_no"], row["claim"]) for row in rows]


async def held_for_a_while(database: Database, agents: Sequence[int]) -> list[tuple[int, Ticket]]:
    """What the store says that these agents have held for some seconds, with the agent's number.

    By the clock of the database, which may have been set meanwhile: act on what two looks agree on.
    """
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


async def forget_agents(database: Database) -> None:
    """Remove agents that have been gone for a day and hold nothing."""
    await database.fetch(_SQL.forget)
