"""Each hot statement uses the index it was written for, and locks in the order of its array.

Generic plans, with a hundred thousand finished tasks (a million in the long run): before any
statistics, with them, with those of a time at which nothing waited, and on a server that believes
random reads to be dear.
"""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from ripieno.domain.catalogue import Listed
from ripieno.domain.queries import Condition, Operator, Query, Sort, check_query
from ripieno.store.database.connections import SETTINGS as OF_SESSIONS
from ripieno.store.database.database import Database
from ripieno.store.database.queries import Queries
from ripieno.store.embedded import EmbeddedPostgres
from ripieno.store.reading import lists
from ripieno.store.reading.compiler import Compiler
from ripieno.store.sessions import counts
from store import functions, plans
from store.filled import analyse_without_the_waiting, fill

SETTINGS = {**OF_SESSIONS, "search_path": "ripieno"}

#: Statement and the indexes that it must use.
HOT = [
    ("claim", "claim", {"states_claimable", "tasks_pkey", "blobs_pkey"}),
    ("claim", "claim_onward", {"states_claimable", "tasks_pkey", "blobs_pkey"}),
    ("commit", "lock_attempts", {"states_pkey", "tasks_pkey"}),
    ("commit", "write_outcomes", {"results_pkey", "states_pkey"}),
    ("commit", "retry_attempts", {"states_pkey", "tasks_pkey", "options_pkey"}),
    ("commit", "mark_started_if_owned", {"states_pkey"}),
    ("commit", "mark_interrupting_if_owned", {"states_pkey"}),
    ("commit", "lock_to_release", {"states_pkey"}),
    ("commit", "release_locked", {"states_pkey"}),
    ("outputs", "commit_plain_with_outputs", {"states_pkey"}),
    ("lives", "purge_outputs", {"tasks_by_session", "attempt_outputs_pkey"}),
    ("outputs", "output_of_attempt", {"states_pkey", "attempt_outputs_pkey", "live_outputs_pkey"}),
    ("progress", "progress_in_session", {"states_pkey", "tasks_pkey"}),
    ("graph", "abort_outputs", {"tasks_pkey", "results_pkey"}),
    ("lives", "standing", {"session_counts_by_session"}),
    ("lives", "held_to_park", {"states_held"}),
    ("lives", "waiting_to_park", {"states_unclaimed"}),
    ("submission", "name_keys", set()),
    ("submission", "lock_open_keys", {"results_pkey"}),
    ("submission", "read_keys", {"results_pkey", "tasks_pkey"}),
    ("submission", "announce_keys", {"results_pkey"}),
    ("submission", "delegate_keys", {"results_pkey"}),
    ("submission", "insert_tasks", set()),
    ("submission", "mark_awaited", {"results_pkey"}),
    ("submission", "existing_tasks", {"tasks_by_id", "blobs_pkey"}),
    ("cancel", "unfinished_tasks", {"states_unclaimed", "states_held"}),
    ("cancel", "unfinished_of_sessions", {"states_unclaimed", "states_held"}),
    ("cancel", "unfinished_of", {"states_pkey"}),
    ("confirmations", "unconfirmed_in_sessions", {"states_cancelling"}),
    ("confirmations", "unconfirmed_of_tasks", {"states_pkey"}),
    ("confirmations", "cancelling_at", {"states_cancelling"}),
    ("revivals", "failed_in_session", {"states_failed", "tasks_pkey"}),
    ("revivals", "failed_of", {"tasks_pkey", "states_pkey"}),
    ("revivals", "still_failed", {"tasks_pkey", "states_pkey"}),
    ("timers", "begin_timers", {"tasks_pkey", "options_pkey"}),
    ("timers", "next_due", {"timers_due"}),
    ("timers", "due_sessions", {"timers_due"}),
    ("timers", "timers_of", {"timers_pkey", "states_pkey"}),
    ("lookup", "tasks_by_id", {"tasks_by_id", "states_pkey"}),
    ("listing", "page_of_tasks", {"tasks_by_session", "states_pkey"}),
    ("lookup", "count_of_tasks", {"states_pkey"}),
    ("lookup", "results_by_key", {"results_pkey"}),
    ("lookup", "finished_results", {"results_pkey", "blobs_pkey"}),
    ("lookup", "results", {"results_pkey", "tasks_pkey", "blobs_pkey"}),
    ("lookup", "results_within", {"results_pkey", "tasks_pkey", "blobs_pkey"}),
    ("lookup", "stopped_tasks", {"states_pkey"}),
    ("lookup", "failure_of_attempt", {"states_pkey", "earlier_attempts_pkey", "attempt_outputs_pkey", "tasks_pkey"}),
    ("inputs", "inputs_of_task", {"tasks_pkey", "sessions_pkey", "options_pkey", "results_pkey", "blobs_pkey"}),
    ("explanations", "explained_task", {"tasks_pkey", "states_pkey", "sessions_pkey", "options_pkey", "agents_pkey"}),
    ("explanations", "missing_inputs", {"tasks_pkey", "results_pkey", "states_pkey"}),
    ("explanations", "missing_outputs", {"tasks_pkey", "results_pkey"}),
    ("explanations", "slots_of_partition", {"states_held"}),
    ("explanations", "place_in_line", {"states_claimable"}),
    ("explanations", "attempts_told", {"earlier_attempts_pkey", "states_pkey", "agents_pkey"}),
    ("explanations", "attempts_had", {"states_pkey"}),
    ("explanations", "timers_told", {"timers_pkey"}),
    ("lookup", "failed_attempts", {"earlier_attempts_pkey", "states_pkey", "tasks_pkey"}),
    ("agents", "held", {"states_held"}),
    ("agents", "still_owned", {"states_pkey"}),
    ("agents", "held_by_lapsed", {"states_held"}),
    ("agents", "forget", {"states_held"}),
]

#: Function, words of one of its statements, and the indexes that it must use. All statements of all
#: functions are looked at: of those that are not named, none may read a whole table or join dearly.
HOT_INSIDE = [
    ("submit_plain", "from sessions s", {"sessions_pkey"}),
    ("submit_plain", "nextval('task_numbers')", {"options_pkey"}),
    ("settle_needs", "for no key update", {"results_pkey"}),
    ("settle_needs", "update results", {"results_pkey"}),
    ("settle_needs", "left join results", {"results_pkey"}),
    ("commit_plain", "update states", {"states_pkey"}),
    ("commit_plain", "update results", {"results_pkey"}),
    ("promote", "update states", {"dependencies_pkey", "states_pkey"}),
    ("promote_some", "update states", {"dependencies_pkey", "states_pkey"}),
    ("cut_some", "update states", {"dependencies_pkey", "states_pkey", "tasks_pkey", "results_pkey"}),
    ("fire_timers", "update states", {"timers_due", "states_pkey"}),
    ("fire_timers", "left join states", {"timers_due", "states_pkey", "sessions_pkey"}),
    ("expire_tasks", "for no key update", {"timers_due", "states_pkey"}),
    ("expire_tasks", "update states", {"states_pkey", "tasks_pkey", "results_pkey", "timers_pkey"}),
    (
        "retry_timed_tasks",
        "update states",
        {"dependencies_pkey", "states_pkey", "tasks_pkey", "results_pkey", "options_pkey"},
    ),
    ("revive_some", "update states", {"dependencies_pkey", "states_pkey", "tasks_pkey", "results_pkey"}),
    ("cancel_numbered", "for no key update", {"states_pkey"}),
    ("cancel_numbered", "update states", {"states_pkey", "tasks_pkey", "results_pkey"}),
    ("create_session", "from deleted_sessions", {"deleted_sessions_by_id"}),
    ("park_numbered", "for no key update", {"states_pkey"}),
    ("park_numbered", "update states", {"states_pkey", "tasks_pkey", "options_pkey"}),
    ("drop_blobs", "delete from blobs", {"blobs_pkey", "blobs_by_object"}),
    ("purge_results", "from results", {"results_pkey"}),
    ("purge_page", "from results", {"results_pkey"}),
    ("purge_payloads", "from tasks", {"tasks_by_session"}),
    ("delete_rows", "from tasks t\n", {"tasks_by_session"}),
    ("delete_rows", "delete from states", {"states_pkey"}),
    ("delete_rows", "delete from timers", {"timers_pkey"}),
    ("retry_timed_tasks", "delete from timers", {"timers_pkey"}),
    ("delete_rows", "delete from earlier_attempts", {"earlier_attempts_pkey"}),
    ("delete_rows", "from dependencies d\n", {"dependencies_pkey"}),
]

#: Statements that lock rows of a table, and what their order must come from.
LOCKING = [
    ("commit", "lock_attempts", "states", "ended"),
    ("commit", "write_outcomes", "results", "produced"),
    ("commit", "write_outcomes", "states", "ended"),
    ("commit", "retry_attempts", "states", "failed"),
    ("commit", "mark_started_if_owned", "states", "begun"),
    ("commit", "mark_interrupting_if_owned", "states", "begun"),
    ("commit", "lock_to_release", "states", "released"),
    ("commit", "release_locked", "states", "locked"),
    ("submission", "lock_open_keys", "results", "named"),
    ("submission", "announce_keys", "results", "named"),
    ("submission", "mark_awaited", "results", "named"),
    ("submission", "delegate_keys", "results", "named"),
]

#: The same for statements of functions.
LOCKING_INSIDE = [
    ("settle_needs", "for no key update", "results", "needed"),
    ("settle_needs", "update results", "results", "held"),
    ("commit_plain", "update states", "states", "attempt"),
    ("commit_plain", "update results", "results", "produced"),
    ("promote", "update states", "states", "met"),
    ("promote_some", "update states", "states", "met"),
    ("fire_timers", "update states", "states", "met"),
    ("expire_tasks", "for no key update", "states", "asked"),
    ("cancel_numbered", "for no key update", "states", "asked"),
    ("park_numbered", "for no key update", "states", "asked"),
    ("delete_rows", "for update", "states", "gone"),
]

#: Functions whose caller holds the gates exclusively: nobody else in the session locks what they do. (The last one locks
#: a single row.)
ALONE = {
    "cut_some", "cancel_numbered", "expire_tasks", "retry_timed_tasks", "revive_some", "park_numbered", "purge_results", "purge_page", "delete_rows",
    "abort_unowned", "delete_data", "complete_unowned",
}  # fmt: skip

#: Statements of functions sort for themselves what the callers of the others have sorted: the sub-select
#: that decides the order in which rows are locked or enter an index, and what it sorts by.
SORTED_INSIDE = [
    ("submit_plain", "insert into results", "*SELECT*", ["(($1)[named.place])", 'named.key COLLATE "C"']),
    ("submit_plain", "insert into tasks", "*SELECT*", ['new.id COLLATE "C"']),
    ("settle_needs", "insert into results", "named", ["(($1)[k.place])", '((k.key)::text) COLLATE "C"']),
    ("settle_needs", "for no key update", "needed", ["(($1)[n.place])", '((n.key)::text) COLLATE "C"']),
    ("commit_plain", "update states", "attempt", ["each.task_no"]),
    ("commit_plain", "update results", "produced", ["(($1)[each.place])", 'each.key COLLATE "C"']),
    ("promote", "update states", "met", ["f.task_no"]),
    ("promote_some", "update states", "met", ["f.task_no"]),
    ("fire_timers", "update states", "met", ["d.task_no"]),
    ("expire_tasks", "for no key update", "asked", ["w.task_no"]),
    ("cancel_numbered", "for no key update", "asked", ["each.each"]),
    ("park_numbered", "for no key update", "asked", ["each.each"]),
]


@pytest_asyncio.fixture(
    scope="module", loop_scope="session", params=[100_000, pytest.param(1_000_000, marks=pytest.mark.long)]
)
async def filled_url(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database with so many finished tasks and a tenth as many unfinished ones, without statistics.

    Beside it stands "quiet", the same with statistics of a time at which nothing waited.
    """
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
    await server.execute("create database quiet template filled")
    connection = await asyncpg.connect(postgres.url_of("quiet"), server_settings=SETTINGS)
    await analyse_without_the_waiting(connection)
    await connection.close()
    yield url
    await server.execute("drop database filled with (force)")
    await server.execute("drop database quiet with (force)")
    await server.close()


@pytest_asyncio.fixture(params=["no statistics", "statistics", "of a quiet time", "dear reads"])
async def connection(
    filled_url: str, postgres: EmbeddedPostgres, request: pytest.FixtureRequest
) -> AsyncIterator[asyncpg.Connection]:
    """Everything that a test does is undone, statistics included."""
    url = postgres.url_of("quiet") if request.param == "of a quiet time" else filled_url
    connection = await asyncpg.connect(url, server_settings=SETTINGS)
    transaction = connection.transaction()
    await transaction.start()
    if request.param in ("statistics", "dear reads"):
        await connection.execute("analyze")
    if request.param == "dear reads":
        await connection.execute("set local random_page_cost = 4; set local effective_cache_size = '8MB'")
    yield connection
    await transaction.rollback()
    await connection.close()


def faults(plan: plans.Node, expected: set[str]) -> Iterator[str]:
    """What is wrong with the plan of a hot statement."""
    if whole := plans.scanned(plan):
        yield f"reads all of {sorted(whole)}"
    if missing := expected - plans.indexes(plan):
        yield f"does not use {sorted(missing)}, but {sorted(plans.indexes(plan))}"
    if dear := plans.joins(plan) - {"Nested Loop"}:
        yield f"joins by {sorted(dear)}"
    if compared := plans.compared(plan):
        yield f"compares each row with each of {sorted(compared)}"


async def inside(connection: asyncpg.Connection, function: str, words: str) -> plans.Node:
    """The plan of the one statement of a function in which these words stand."""
    statements = await functions.statements(connection)
    [statement] = [each for name, each in statements if name == function and words in each]
    return await plans.generic_plan(connection, statement)


async def test_hot_statements_use_their_indexes(connection: asyncpg.Connection) -> None:
    astray = []
    for file, name, expected in HOT:
        plan = await plans.generic_plan(connection, getattr(Queries(file), name))
        astray += [f"{name} {fault}" for fault in faults(plan, expected)]
    assert not astray, "\n".join(astray)


async def test_hot_statements_inside_functions_use_their_indexes(connection: asyncpg.Connection) -> None:
    astray = []
    for function, words, expected in HOT_INSIDE:
        plan = await inside(connection, function, words)
        astray += [f"{words!r} of {function} {fault}" for fault in faults(plan, expected)]
    for function, statement in await functions.statements(connection):
        plan = await plans.generic_plan(connection, statement)
        astray += [f"{function} {fault}: {statement}" for fault in faults(plan, set())]
    assert not astray, "\n".join(astray)


async def test_plans_made_on_an_empty_database_hold_when_it_has_grown(database_url: str) -> None:
    """A statement is planned when it is first used, and that plan stays until the table is analysed."""
    async with Database.open(database_url):
        pass
    connection = await asyncpg.connect(database_url, server_settings=SETTINGS)
    statements = [(name, getattr(Queries(file), name)) for file, name, _ in HOT]
    astray = []
    for name, statement in [*statements, *await functions.statements(connection)]:
        for node in plans.nodes(await plans.generic_plan(connection, statement)):
            condition = node.get("Index Cond", "")
            if node["Node Type"] == "Materialize" or (
                node.get("Index Name") in ("results_pkey", "dependencies_pkey")
                and not re.search(r"key =|ROW\(session_no, key", condition)
            ):
                astray.append(f"{name}: {node['Node Type']} {condition}")
    await connection.close()
    assert not astray, "\n".join(astray)


async def test_rows_are_locked_in_the_order_of_the_array(connection: asyncpg.Connection) -> None:
    astray = []
    for file, name, table, expected in LOCKING:
        plan = await plans.generic_plan(connection, getattr(Queries(file), name))
        if (found := plans.driver(plan, table)) != expected:
            astray.append(f"{name} is driven by {found!r}")
    assert not astray, "\n".join(astray)


async def test_rows_are_locked_in_order_inside_functions(connection: asyncpg.Connection) -> None:
    astray = []
    for function, words, table, expected in LOCKING_INSIDE:
        if (found := plans.driver(await inside(connection, function, words), table)) != expected:
            astray.append(f"{words!r} of {function} is driven by {found!r}")
    for function, words, alias, keys in SORTED_INSIDE:
        if (by := plans.sorted_by(await inside(connection, function, words), alias)) != keys:
            astray.append(f"{words!r} of {function} has {alias!r} sorted by {by}")
    assert not astray, "\n".join(astray)


async def test_no_function_locks_rows_in_an_order_that_nobody_looked_at(connection: asyncpg.Connection) -> None:
    """A new function, or a new statement of an old one, is to be listed above."""
    looked_at = [each[:2] for each in (*LOCKING_INSIDE, *SORTED_INSIDE)]
    for function, statement in await functions.statements(connection):
        plan = await plans.generic_plan(connection, statement)
        if plans.locked(plan) & {"states", "results", "tasks"}:
            ours = any(name == function and words in statement for name, words in looked_at)
            assert ours or function in ALONE or (function, plans.locked(plan)) == ("submit_plain", {"states"}), (
                statement
            )


async def test_what_is_locked_is_written_where_it_lies(connection: asyncpg.Connection) -> None:
    """Without going through the index once more."""
    for plan in (
        await plans.generic_plan(connection, Queries("claim").claim),
        await inside(connection, "commit_plain", "update states"),
    ):
        [written] = [node for node in plans.nodes(plan) if node["Node Type"] == "Tid Scan"]
        assert written["Relation Name"] == "states"
        reached = [node for node in plans.nodes(plan) if node.get("Relation Name") == "states" and "Index Name" in node]
        assert len(reached) == 1


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


async def test_a_claim_that_goes_onward_reads_what_it_takes_and_no_more(connection: asyncpg.Connection) -> None:
    """Whatever lies before the place where it begins, among the tasks of that priority."""
    rows = await connection.fetch(
        "select task_no from states where partition = '' and status = 1 and unmet = 0 and priority = 99 order by task_no"
    )
    half = rows[len(rows) // 2]["task_no"]
    plan = await plans.measured_plan(
        connection, Queries("claim").claim_onward, "''", "20", "5", "array_fill(7::bigint, array[20])", "99", f"{half}"
    )
    assert plan["Actual Rows"] == 20
    for node in plans.nodes(plan):
        assert node["Actual Rows"] * node["Actual Loops"] <= 40, node["Node Type"]
        assert node.get("Rows Removed by Filter", 0) == 0, node["Node Type"]


@pytest.mark.parametrize("attempts", [1, 100])
async def test_a_commit_reads_what_it_writes_and_no_more(connection: asyncpg.Connection, attempts: int) -> None:
    """However much is waiting or done. What it holds are tasks of session 101 (``store.filled``)."""
    rows = await connection.fetch(
        "select task_no, claim from states where claim is not null order by task_no limit $1", attempts
    )
    numbers = [row["task_no"] for row in rows]
    plan = await plans.measured_plan(
        connection,
        Queries("commit").commit_plain,
        "'{101}'",
        f"'{{{6 * attempts}}}'",
        f"array{numbers}",
        f"array{[row['claim'] for row in rows]}",
        f"array{[101] * attempts}",
        f"array{[1] * attempts}",
        f"array{['w'] * attempts}",
        f"array{list(range(1, attempts + 1))}",
        f"array{[f'key {number}' for number in numbers]}",
        f"array{[-number for number in numbers]}",
        f"array{[-number for number in numbers]}",
        f"array{['result'] * attempts}::bytea[]",
        *["'{}'"] * 4,
    )
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 1_000 + 40 * attempts


async def test_a_cancel_of_a_session_reads_no_finished_task(connection: asyncpg.Connection) -> None:
    arguments = ("1", "0", "1000000000", "array[1, 2, 3]", "1000")
    plan = await plans.measured_plan(connection, Queries("cancel").unfinished_tasks, *arguments)
    unfinished = await connection.fetchval("select count(*) from tasks where session_no = 101")
    assert max(node.get("Rows Removed by Filter", 0) for node in plans.nodes(plan)) <= unfinished


async def test_the_driver_of_a_plan_is_read_right(connection: asyncpg.Connection) -> None:
    """The test of the test: a join that starts at the table is told from one that starts at the array."""
    await connection.execute("set local enable_nestloop = off; set local enable_hashjoin = on")
    plan = await plans.generic_plan(connection, Queries("commit").mark_interrupting_if_owned)
    with contextlib.suppress(AssertionError):
        assert plans.driver(plan, "states") != "begun"
    assert plans.joins(plan) == {"Hash Join"}
    assert plans.scanned(plan) == {"states"}


def test_functions_are_cut_into_what_is_planned() -> None:
    """The other test of the test."""
    body = """
    declare
        counts integer[] := '{}';
        places constant bigint := 1;
    begin
        perform lock(numbers[1]);  -- a comment; with a semicolon
        for place in 1 .. cardinality(numbers) loop
            update t set counts = t.counts + places from u as v (numbers) where v.numbers = numbers[place];
        end loop;
        if exists (select from tasks where task_no = places) then
            raise exception 'not plain: numbers' using errcode = 'RP001';
        else
            select array_agg(n), max(n) as places into counts, places from unnest(numbers) as n;
            insert into other (numbers, places) select counts, 'places' from each;
        end if;
        counts := array_fill(0, numbers);
        return counts;
    end """
    assert functions.statements_of(body, {"numbers": "bigint[]"}) == [
        "select lock(($1::bigint[])[1])",
        "update t set counts = t.counts + ($1::bigint) from u as v (numbers) where v.numbers = ($2::bigint[])[($3::integer)]",
        "select exists (select from tasks where task_no = ($1::bigint))",
        "select array_agg(n), max(n) as places  from unnest(($1::bigint[])) as n",
        "insert into other (numbers, places) select ($1::integer[]), 'places' from each",
        "select array_fill(0, ($1::bigint[]))",
        "select ($1::integer[])",
    ]


_OF_101 = Condition("session_id", Operator.EQUAL, "session 101")
_OF_50 = Condition("session_id", Operator.EQUAL, "session 50")


def _in_status(of: Condition, *statuses: str) -> list[list[Condition]]:
    return [[of, Condition("status", Operator.EQUAL, status)] for status in statuses]


#: First pages that an index carries (``domain.catalogue``).
CARRIED = [
    Query(Listed.TASKS, [[_OF_50]]),
    Query(Listed.TASKS, [[_OF_101]], [Sort("number", descending=True)]),
    Query(Listed.TASKS, [], [Sort("number", descending=True)]),
    Query(Listed.TASKS, _in_status(_OF_50, "ERROR", "TIMEOUT", "CANCELLED")),
    Query(Listed.TASKS, _in_status(_OF_50, "SUBMITTED", "DISPATCHED", "PROCESSING", "CANCELLING", "ERROR")),
    Query(Listed.TASKS, _in_status(_OF_101, "DISPATCHED"), [Sort("number", descending=True)]),
    Query(Listed.TASKS, _in_status(_OF_50, "COMPLETED"), [Sort("number", descending=True)]),
    Query(Listed.TASKS, [[Condition("id", Operator.EQUAL, "task 70000")], [Condition("id", Operator.EQUAL, "none")]]),
    Query(Listed.TASKS, [[Condition("id", Operator.STARTS_WITH, "task 7000")]]),
    Query(Listed.ATTEMPTS, [[_OF_50]]),
    Query(Listed.ATTEMPTS, [[_OF_50]], [Sort("task_number", descending=True)]),
    Query(Listed.ATTEMPTS, [[Condition("task_id", Operator.EQUAL, "task 70000")]]),
    Query(Listed.RESULTS, [[_OF_101]], [Sort("key", descending=True)]),
    Query(Listed.RESULTS, [[_OF_50, Condition("key", Operator.EQUAL, "key 49500")]]),
    Query(Listed.SESSIONS, [], [Sort("id", descending=True)]),
    Query(Listed.OPTIONS, [], [Sort("number", descending=True)]),
]


@pytest.mark.parametrize("connection", ["statistics", "dear reads"], indirect=True)
@pytest.mark.parametrize("query", CARRIED, ids=lambda query: query.listed.value)
async def test_a_page_that_an_index_carries_reads_little(connection: asyncpg.Connection, query: Query) -> None:
    """However many tasks there are. Bounded in pages of the database, which do not depend on the machine.

    Unlike hot statements, those of lists are planned each time, by the statistics: without any, their time is bounded.
    """
    await connection.execute(lists._BEGIN.partition(";")[2])
    checked = check_query(query)
    compiler = Compiler(checked)
    page = compiler.page(None)
    plan = json.loads(
        await connection.fetchval(f"explain (analyze, buffers, format json) {page.text}", *page.parameters)
    )
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] <= 2_000, plan
    positions = [tuple(row) for row in await connection.fetch(page.text, *page.parameters)]
    if len(positions) > checked.page_size:  # and so does the next one
        following = compiler.page(positions[-2])
        explain = f"explain (analyze, buffers, format json) {following.text}"
        plan = json.loads(await connection.fetchval(explain, *following.parameters))
        assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] <= 2_000, plan
