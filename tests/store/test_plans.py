"""Each hot statement uses the index it was written for, and locks in the order of its array.

Generic plans, with a hundred thousand finished tasks (a million in the long run): before any
statistics, with them, and on a server that believes random reads to be dear.
"""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from ripieno.store import counts
from ripieno.store.database import PLANNER_SETTINGS, Database
from ripieno.store.embedded import EmbeddedPostgres
from ripieno.store.queries import Queries
from store import plans
from store.filled import fill

SETTINGS = {**PLANNER_SETTINGS, "search_path": "ripieno"}

#: Statement and the indexes that it must use.
HOT = [
    ("claim", "claim", {"states_claimable", "states_pkey", "tasks_pkey", "blobs_pkey"}),
    ("commit", "lock_attempts", {"states_pkey", "tasks_pkey"}),
    ("commit", "write_outcomes", {"results_pkey", "states_pkey"}),
    ("commit", "retry_attempts", {"states_pkey"}),
    ("commit", "mark_started_if_owned", {"states_pkey"}),
    ("commit", "mark_interrupting_if_owned", {"states_pkey"}),
    ("commit", "release_if_owned", {"states_pkey"}),
    ("graph", "promote", {"dependencies_pkey", "states_pkey"}),
    ("graph", "dependents", {"dependencies_pkey", "states_pkey", "results_pkey", "tasks_pkey"}),
    ("graph", "sessions_with_dependents", {"dependencies_pkey", "states_pkey"}),
    ("graph", "fail_dependents", {"states_pkey"}),
    ("graph", "abort_outputs", {"tasks_pkey", "results_pkey"}),
    ("submission", "name_keys", set()),
    ("submission", "lock_open_keys", {"results_pkey"}),
    ("submission", "read_keys", {"results_pkey", "tasks_pkey"}),
    ("submission", "announce_keys", {"results_pkey"}),
    ("submission", "delegate_keys", {"results_pkey"}),
    ("submission", "insert_tasks", set()),
    ("submission", "mark_awaited", {"results_pkey"}),
    ("submission", "existing_tasks", {"tasks_by_id", "blobs_pkey"}),
    ("cancel", "unfinished_of_session", {"states_waiting", "states_claimable", "states_held"}),
    ("cancel", "lock_unfinished", {"states_pkey"}),
    ("cancel", "cancel_tasks", {"states_pkey"}),
    ("cancel", "not_yet_stopped", {"states_pkey"}),
    ("lookup", "tasks_by_id", {"tasks_by_id", "states_pkey"}),
    ("lookup", "tasks_of_sessions", {"tasks_by_session", "states_pkey"}),
    ("lookup", "count_of_tasks", {"states_pkey"}),
    ("lookup", "results_by_key", {"results_pkey"}),
    ("lookup", "result", {"results_pkey", "tasks_pkey", "blobs_pkey"}),
    ("lookup", "finished_results", {"results_pkey", "blobs_pkey"}),
    ("lookup", "fetch_results", {"results_pkey", "tasks_pkey", "blobs_pkey"}),
    ("lookup", "failed_attempts", {"earlier_attempts_pkey", "states_pkey", "tasks_pkey"}),
    ("agents", "held", {"states_held"}),
    ("agents", "cancelling", {"states_held"}),
    ("agents", "still_owned", {"states_pkey"}),
    ("agents", "expired", {"states_held"}),
    ("agents", "forget", {"states_held"}),
]

#: Statements that lock rows of a table, and what their order must come from.
LOCKING = [
    ("commit", "lock_attempts", "states", "ended"),
    ("commit", "write_outcomes", "results", "produced"),
    ("commit", "write_outcomes", "states", "ended"),
    ("commit", "retry_attempts", "states", "failed"),
    ("commit", "mark_started_if_owned", "states", "begun"),
    ("commit", "mark_interrupting_if_owned", "states", "begun"),
    ("commit", "release_if_owned", "states", "released"),
    ("graph", "promote", "states", "met"),
    ("graph", "fail_dependents", "states", "failed"),
    ("submission", "lock_open_keys", "results", "named"),
    ("submission", "announce_keys", "results", "named"),
    ("submission", "mark_awaited", "results", "named"),
    ("submission", "delegate_keys", "results", "named"),
    ("cancel", "lock_unfinished", "states", "asked"),
    ("cancel", "cancel_tasks", "states", "locked"),
]


@pytest_asyncio.fixture(
    scope="module", loop_scope="session", params=[100_000, pytest.param(1_000_000, marks=pytest.mark.long)]
)
async def filled_url(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database with so many finished tasks and a tenth as many unfinished ones, without statistics."""
    server = await asyncpg.connect(postgres.url)
    await server.execute("create database filled template template0")
    url = postgres.url_of("filled")
    async with Database.open(url):
        pass
    connection = await asyncpg.connect(url, server_settings=SETTINGS)
    # Statistics come when a test asks for them, not when autovacuum thinks so.
    for table in plans.BIG:
        await connection.execute(f"alter table {table} set (autovacuum_enabled = false)")
    await fill(connection, request.param)
    await connection.close()
    yield url
    await server.execute("drop database filled with (force)")
    await server.close()


@pytest_asyncio.fixture(params=["no statistics", "statistics", "dear reads"])
async def connection(filled_url: str, request: pytest.FixtureRequest) -> AsyncIterator[asyncpg.Connection]:
    """Everything that a test does is undone, statistics included."""
    connection = await asyncpg.connect(filled_url, server_settings=SETTINGS)
    transaction = connection.transaction()
    await transaction.start()
    if request.param != "no statistics":
        await connection.execute("analyze")
    if request.param == "dear reads":
        await connection.execute("set local random_page_cost = 4; set local effective_cache_size = '8MB'")
    yield connection
    await transaction.rollback()
    await connection.close()


async def test_hot_statements_use_their_indexes(connection: asyncpg.Connection) -> None:
    astray = []
    for file, name, expected in HOT:
        plan = await plans.generic_plan(connection, getattr(Queries(file), name))
        if whole := plans.scanned(plan):
            astray.append(f"{name} reads all of {sorted(whole)}")
        if missing := expected - plans.indexes(plan):
            astray.append(f"{name} does not use {sorted(missing)}, but {sorted(plans.indexes(plan))}")
        if dear := plans.joins(plan) - {"Nested Loop"}:
            astray.append(f"{name} joins by {sorted(dear)}")
    assert not astray, "\n".join(astray)


async def test_rows_are_locked_in_the_order_of_the_array(connection: asyncpg.Connection) -> None:
    astray = []
    for file, name, table, expected in LOCKING:
        plan = await plans.generic_plan(connection, getattr(Queries(file), name))
        if (found := plans.driver(plan, table)) != expected:
            astray.append(f"{name} is driven by {found!r}")
    assert not astray, "\n".join(astray)


async def test_what_promotes_is_sorted_by_task(connection: asyncpg.Connection) -> None:
    plan = await plans.generic_plan(connection, Queries("graph").promote)
    [met] = [node for node in plans.nodes(plan) if node.get("Alias") == "met"]
    [top] = met["Plans"]
    if top.get("Strategy") == "Sorted":
        [top] = top["Plans"]
    assert (top["Node Type"], top.get("Sort Key")) == ("Sort", ["d.task_no"])


async def test_counts_are_read_by_session(connection: asyncpg.Connection) -> None:
    plan = await plans.generic_plan(connection, counts._READ)
    assert plans.indexes(plan) == {"session_counts_by_session"}


@pytest.mark.parametrize("limit", [1, 512])
async def test_a_claim_reads_what_it_takes_and_no_more(connection: asyncpg.Connection, limit: int) -> None:
    """However much is waiting or done. Bounded in rows and pages, which do not depend on the machine."""
    plan = await plans.measured_plan(
        connection, Queries("claim").claim, "''", f"{limit}", "5", f"array_fill(7::bigint, array[{limit}])"
    )
    assert plan["Actual Rows"] == limit
    for node in plans.nodes(plan):
        assert node["Actual Rows"] * node["Actual Loops"] <= 2 * limit, node["Node Type"]
        assert node.get("Rows Removed by Filter", 0) == 0, node["Node Type"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 100 + 40 * limit


async def test_a_cancel_of_a_session_reads_no_finished_task(connection: asyncpg.Connection) -> None:
    plan = await plans.measured_plan(connection, Queries("cancel").unfinished_of_session, "1")
    assert plan["Actual Rows"] == 0
    unfinished = await connection.fetchval("select count(*) from tasks where session_no = 101")
    assert max(node.get("Rows Removed by Filter", 0) for node in plans.nodes(plan)) <= unfinished


async def test_the_driver_of_a_plan_is_read_right(connection: asyncpg.Connection) -> None:
    """The test of the test: a join that starts at the table is told from one that starts at the array."""
    await connection.execute("set local enable_nestloop = off; set local enable_hashjoin = on")
    plan = await plans.generic_plan(connection, Queries("graph").fail_dependents)
    with contextlib.suppress(AssertionError):
        assert plans.driver(plan, "states") != "failed"
    assert plans.joins(plan) == {"Hash Join"}
    assert plans.scanned(plan) == {"states"}
