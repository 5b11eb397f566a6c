"""Plans of PostgreSQL, read as trees."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

Node = dict[str, Any]

#: Tables in which every finished task leaves a row.
BIG = {"tasks", "states", "results", "dependencies", "blobs", "earlier_attempts"}


#: Indexes that hold unfinished tasks only.
PARTIAL = {"states_claimable", "states_unclaimed", "states_held", "states_failed"}


async def generic_plan(connection: asyncpg.Connection, statement: str) -> Node:
    """The plan that is made once and used for any arguments."""
    arguments = ["null"] * max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
    return await _explained(connection, "format json", statement, arguments)


async def measured_plan(connection: asyncpg.Connection, statement: str, *arguments: str) -> Node:
    """Run a statement with arguments (SQL expressions), roll it back, and return its plan with what it read."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        return await _explained(connection, "analyze, buffers, format json", statement, arguments)
    finally:
        await transaction.rollback()


async def _explained(connection: asyncpg.Connection, how: str, statement: str, arguments: Sequence[str]) -> Node:
    given = f"({', '.join(arguments)})" if arguments else ""
    await connection.execute(f"prepare explained as {statement}")
    explained = await connection.fetchval(f"explain ({how}) execute explained{given}")
    await connection.execute("deallocate explained")
    plan: Node = json.loads(explained)[0]["Plan"]
    return plan


def nodes(plan: Node) -> Iterator[Node]:
    """All nodes."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes(plan: Node) -> set[str]:
    """The indexes that it uses."""
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


def scanned(plan: Node) -> set[str]:
    """Big tables that it reads from end to end, by a scan of the table or of a whole index."""
    whole = set()
    for node in nodes(plan):
        partial = node.get("Index Name") in PARTIAL
        if node["Node Type"] == "Seq Scan" or ("Index Name" in node and "Index Cond" not in node and not partial):
            whole.add(node.get("Relation Name") or node["Index Name"].rpartition("_")[0])
    return whole & BIG


def joins(plan: Node) -> set[str]:
    """Ways of joining."""
    return {
        node["Node Type"] for node in nodes(plan) if node["Node Type"] in ("Hash Join", "Merge Join", "Nested Loop")
    }


def compared(plan: Node) -> set[str]:
    """Indexes that a nested loop reads for each of its outer rows without looking for that row's key in them."""
    found = set[str]()
    for node in nodes(plan):
        if "Join Filter" in node:
            inner = [below for below in nodes(node["Plans"][-1]) if below.get("Relation Name") in BIG]
            found |= {str(each.get("Index Name", each["Relation Name"])) for each in inner if not _looks_up(each)}
    return found


def _looks_up(node: Node) -> bool:
    condition = node.get("Index Cond", "")
    by_key = node.get("Index Name") in ("results_pkey", "dependencies_pkey")
    return bool(re.search(r"\bkey =|ROW\(session_no, key", condition) if by_key else condition)


def sorted_by(plan: Node, alias: str) -> list[str]:
    """What a sub-select, or a common table expression, is sorted by; nothing where it is not."""
    tops = [
        node["Plans"][0] for node in nodes(plan) if (node["Node Type"], node.get("Alias")) == ("Subquery Scan", alias)
    ]
    tops += [node for node in nodes(plan) if node.get("Subplan Name") == f"CTE {alias}"]
    [top] = tops
    while top.get("Strategy") == "Sorted" or top["Node Type"] == "Unique":
        [top] = top["Plans"]
    keys: list[str] = top.get("Sort Key", [])
    return keys


def locked(plan: Node) -> set[str]:
    """Tables of which it locks rows, changes them or adds some."""
    found = set()
    for node in nodes(plan):
        if node["Node Type"] == "ModifyTable":
            found.add(node["Relation Name"])
        elif node["Node Type"] == "LockRows":
            found |= {below["Relation Name"] for below in nodes(node) if "Relation Name" in below}
    return found


def driver(plan: Node, table: str) -> str:
    """What decides the order in which rows of ``table`` are reached: the outermost leaf above it.

    Raises:
        AssertionError: something between changes the order.
    """
    path = _path_to(plan, table)
    assert path, f"{table} is not in the plan"
    for above, below in itertools.pairwise(path):
        if above["Node Type"] == "Nested Loop":
            outer = above["Plans"][0]
            if below is not outer:
                return _first_leaf(outer)
        assert above["Node Type"] not in ("Sort", "Hash Join", "Merge Join", "HashAggregate"), above["Node Type"]
    return table


def _path_to(plan: Node, table: str) -> Sequence[Node]:
    if plan.get("Relation Name") == table and "Scan" in plan["Node Type"]:
        return [plan]
    for child in plan.get("Plans", ()):
        aside = child["Parent Relationship"] == "InitPlan" and not any(
            node["Node Type"] in ("LockRows", "ModifyTable") for node in nodes(child)
        )
        if not aside and (below := _path_to(child, table)):
            return [plan, *below]
    return []


def _first_leaf(plan: Node) -> str:
    if plan["Node Type"] == "Subquery Scan":
        return str(plan["Alias"])
    if "Plans" not in plan:
        # EXPLAIN numbers an alias that stands in the statement more than once.
        return re.sub(r"_\d+$", "", str(plan.get("Alias", plan["Node Type"])))
    assert plan["Node Type"] in ("Nested Loop", "LockRows"), plan["Node Type"]
    return _first_leaf(plan["Plans"][0])
