"""Agents and their leases.

The replica that an agent is connected to renews its lease: it counts up the renewals in the
agent's row. An agent whose count stands still for the length of a lease, by the monotonic clock of an observer
that was awake all the while (``control.agents.liveness``), is lost: its attempts are rescued, and
outcomes that it may still send are refused. No wall clock decides this, since it may be set at any time.

Each connection of an agent has an *epoch*, its number as the agent counts its connections. Only the latest connection
is renewed, and nothing is released because of what a former one reports: a replica that still has a former one is told
when the agent connects elsewhere, and learns it with its next renewal at the latest. A replica that reads an old
introduction late (because it was stopped, for instance) is refused.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from ripieno.domain.errors import ConflictError
from ripieno.domain.outcomes import Ticket
from ripieno.domain.statuses import TaskStatus
from ripieno.store.database.database import Connection, Database
from ripieno.store.database.queries import Queries

_SQL = Queries("agents")

#: The epoch of an agent that has ended: later than that of any connection that it had or may still open.
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
    """Register a connection of an agent and begin its lease; return the agent's number.

    The number is the same after a reconnect.

    Args:
        database: The database.
        agent_id: Id of the agent.
        name: Name of the agent, for people.
        slots: Attempts that the agent runs at a time.
        partitions: Partitions from which the agent takes tasks.
        version: Version of the agent.
        lease_s: Length of the lease, in seconds.
        epoch: Number of the connection, as the agent counts its connections.
        replica: Number of the replica that the agent is connected to (``introduce_replica``).

    Raises:
        ConflictError: the agent has a later connection, through whichever replica; nothing happened.
    """
    row = await database.fetchrow(_SQL.register, agent_id, name, slots, partitions, version, lease_s, replica, epoch)
    if row is None:
        raise ConflictError(f"agent {name!r} has connected anew since it opened this connection ({epoch})")
    number: int = row["agent_no"]
    return number


async def resize_agent(database: Database, agent_no: int, epoch: int, slots: int) -> None:
    """Note that an agent runs another number of attempts at a time; no-op unless this is its latest connection."""
    await database.fetch(_SQL.resize, agent_no, epoch, slots)


async def introduce_replica(connection: Connection, replica: int) -> None:
    """Show others that the replica of this number lives, for as long as the session on the database does."""
    await connection.execute(_SQL.introduce_replica, replica)


async def renew_leases(
    connection: Connection, connected: Mapping[int, int], lease_s: float, replica: int = 0
) -> set[int]:
    """Renew the leases of connected agents, each given with the epoch of its connection.

    Returns:
        The agents whose latest connection has that epoch. The others have connected anew elsewhere.
    """
    rows = await connection.fetch(_SQL.renew, list(connected), list(connected.values()), lease_s, replica)
    return {row["agent_no"] for row in rows}


async def read_renewals(connection: Connection) -> dict[int, int]:
    """Return how often the lease of each agent that holds attempts was renewed, by agent number."""
    return {row["agent_no"]: row["renewals"] for row in await connection.fetch(_SQL.renewals)}


async def write_to(connection: Connection, agents: Sequence[int]) -> set[int]:
    """Rewrite the rows of agents unchanged, to check that a replica could renew their leases at present.

    Returns:
        The agents whose rows were written; those that another transaction is writing are left out.
    """
    return {row["agent_no"] for row in await connection.fetch(_SQL.write_to, agents)}


async def without_replica(connection: Connection, agents: Sequence[int], own: int) -> set[int]:
    """Return the agents whose latest replica has ended, or is the calling replica, whose number is ``own``."""
    return {row["agent_no"] for row in await connection.fetch(_SQL.without_replica, agents, own)}


async def held_by_lapsed(database: Database, lapsed: Mapping[int, int], limit: int) -> list[tuple[Ticket, str]]:
    """Return attempts of agents whose number of renewals is still the given one, with the agent's name."""
    rows = await database.fetch(_SQL.held_by_lapsed, list(lapsed), list(lapsed.values()), limit)
    return [(Ticket(row["task_no"], row["session_no"], row["claim"]), row["name"]) for row in rows]


async def end_agent(database: Database, agent_id: UUID) -> int | None:
    """End an agent whose process is known to have ended: its connections are renewed and accepted no more.

    Returns:
        The agent's number; None if the agent was never registered.
    """
    row = await database.fetchrow(_SQL.end, agent_id, ENDED)
    return None if row is None else int(row["agent_no"])


async def held_by_ended(database: Database, agent_no: int, limit: int) -> list[tuple[Ticket, str]]:
    """Return attempts that an ended agent still holds, with its name; none if the agent was not ended."""
    rows = await database.fetch(_SQL.held_by_ended, agent_no, limit, ENDED)
    return [(Ticket(row["task_no"], row["session_no"], row["claim"]), row["name"]) for row in rows]


async def held_by(database: Database, agent_no: int, epoch: int) -> list[Ticket]:
    """Return the attempts that an agent holds by the store; none if this connection is not its latest."""
    rows = await database.fetch(_SQL.held, agent_no, epoch)
    return [Ticket(row["task_no"], row["session_no"], row["claim"]) for row in rows]


async def held_for_a_while(database: Database, connected: Mapping[int, int]) -> list[tuple[int, Ticket]]:
    """Return the attempts that agents have held for five seconds by the store, with the agent's number.

    The time is by the clock of the database, which may have been set meanwhile: the caller should act only on
    attempts that two calls return.

    Args:
        database: The database.
        connected: Agents, each with the epoch of its connection. An agent with a later connection is left out.
    """
    rows = await database.fetch(_SQL.held_for_a_while, list(connected), list(connected.values()))
    return [(row["agent_no"], Ticket(row["task_no"], row["session_no"], row["claim"])) for row in rows]


async def check_held(database: Database, agent_no: int, held: Sequence[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
    """Return, of the tickets that an agent says it holds, those that it has lost and those being cancelled."""
    rows = await database.fetch(
        _SQL.still_owned, [ticket.task_no for ticket in held], [ticket.claim for ticket in held], agent_no
    )
    status = {(row["task_no"], row["claim"]): row["status"] for row in rows}
    lost = [ticket for ticket in held if (ticket.task_no, ticket.claim) not in status]
    cancelled = [ticket for ticket in held if status.get((ticket.task_no, ticket.claim)) == TaskStatus.CANCELLING]
    return lost, cancelled


async def forget_agents(database: Database) -> None:
    """Remove agents whose lease ended a day ago and that hold no attempts."""
    await database.fetch(_SQL.forget)
