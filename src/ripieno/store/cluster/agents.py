"""Agents and their leases.

The replica that an agent is connected to renews its lease: it counts up the renewals in the
agent's row. An agent whose count stands still for a lease, by the monotonic clock of an observer
that was awake all the while (``control.agents.liveness``), is lost: what it held is rescued, and the
fence refuses what it may still send. No wall clock decides anything here; each machine's may be set at any time.

Each connection of an agent has an *epoch*, its number as the agent counts them. Only the latest one is
renewed, and nothing is released on the word of a former one: a replica that still has one is told when
the agent connects elsewhere, and learns it with its next renewal at the latest. A replica that reads an old
introduction late (it was stopped, say) is refused.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from ripieno.domain.errors import ConflictError
from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries

_SQL = Queries("agents")

#: The epoch of an agent that has ended: later than that of any connection it had, and of any that it may still try.
ENDED = 2**63 - 1


async def register_agent(
    database: Database,
    agent_id: UUID,
    *,
    name: str,
    slots: int,
    partitions: Sequence[str],
    version: str,
    lease_s: float,
    epoch: int = 0,
    replica: int = 0,
) -> int:
    """Begin a connection of an agent, and its lease; return the number that it is known by.

    The number is the same after a reconnect.

    Args:
        epoch: Of the connection; the agent counts them.
        replica: Of the replica it is connected to (``introduce_replica``).

    Raises:
        ConflictError: the agent has a later connection, through whichever replica; nothing happened.
    """
    row = await database.fetchrow(_SQL.register, agent_id, name, slots, partitions, version, lease_s, replica, epoch)
    if row is None:
        raise ConflictError(f"agent {name!r} has connected anew since it opened this connection ({epoch})")
    number: int = row["agent_no"]
    return number


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


async def write_to(connection: Connection, agents: Sequence[int]) -> set[int]:
    """Write to the agents' rows what they hold: to see that the database takes it from whoever would renew their leases.

    Returns:
        Those it was written to; not those that somebody else writes to just now.
    """
    return {row["agent_no"] for row in await connection.fetch(_SQL.write_to, agents)}


async def without_replica(connection: Connection, agents: Sequence[int], own: int) -> set[int]:
    """Those of the agents whose latest replica has ended, or is the one that asks, of the number ``own``."""
    return {row["agent_no"] for row in await connection.fetch(_SQL.without_replica, agents, own)}


async def held_by_lapsed(database: Database, lapsed: Mapping[int, int], limit: int) -> list[tuple[Ticket, str]]:
    """Attempts of agents whose renewals still are what they were, with the agent's name."""
    rows = await database.fetch(_SQL.held_by_lapsed, list(lapsed), list(lapsed.values()), limit)
    return [(Ticket(row["task_no"], row["session_no"], row["claim"]), row["name"]) for row in rows]


async def end_agent(database: Database, agent_id: UUID) -> int | None:
    """End an agent whose process is known to have ended: no connection of it is renewed or accepted any more.

    Returns:
        Its number; None if it was never seen.
    """
    row = await database.fetchrow(_SQL.end, agent_id, ENDED)
    return None if row is None else int(row["agent_no"])


async def held_by_ended(database: Database, agent_no: int, limit: int) -> list[tuple[Ticket, str]]:
    """Attempts that an agent held when it was ended, with its name; none of one that was not."""
    rows = await database.fetch(_SQL.held_by_ended, agent_no, limit, ENDED)
    return [(Ticket(row["task_no"], row["session_no"], row["claim"]), row["name"]) for row in rows]


async def held_by(database: Database, agent_no: int, epoch: int) -> list[Ticket]:
    """What the store says that an agent holds; nothing if this connection of it is not the latest."""
    rows = await database.fetch(_SQL.held, agent_no, epoch)
    return [Ticket(row["task_no"], row["session_no"], row["claim"]) for row in rows]


async def held_for_a_while(database: Database, connected: Mapping[int, int]) -> list[tuple[int, Ticket]]:
    """What the store says that agents have held for some seconds, with the agent's number.

    By the clock of the database, which may have been set meanwhile: act on what two looks agree on.

    Args:
        connected: Agents, each with the epoch of its connection. Of one that is not the latest nothing is said.
    """
    rows = await database.fetch(_SQL.held_for_a_while, list(connected), list(connected.values()))
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
