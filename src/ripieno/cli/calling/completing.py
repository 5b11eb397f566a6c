"""Completion in the shell: ids and names that the cluster knows, within a time that nobody notices, or nothing.

Whatever goes wrong, somebody is typing: there is nothing to complete then, and nothing is printed.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from ripieno.config import DEFAULT_ADDRESS
from ripieno.contexts import contexts_file, read_contexts
from ripieno.domain.addresses import parse_addresses
from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import RipienoError
from ripieno.domain.queries import Condition, Operator, Query, Sort

#: How long a completion may take, in seconds, whatever the cluster does.
_WITHIN_S = 1.0
#: What a shell shows at once.
_MOST = 50

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def session_ids(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the newest sessions whose ids begin so."""
    return _listed(context, Listed.SESSIONS, "id", "number", begun, {})


def task_ids(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the newest tasks whose ids begin so."""
    session = context.params.get("session_id")
    return _listed(context, Listed.TASKS, "id", "number", begun, {"session_id": session} if session else {})


def result_keys(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return results of the session that was named before whose keys begin so."""
    session = context.params.get("session_id")
    return _listed(context, Listed.RESULTS, "key", "", begun, {"session_id": session}) if session else []


def context_names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the user's contexts whose names begin so."""
    try:
        return _usable(sorted(read_contexts(contexts_file()).by_name), begun)
    except (RipienoError, OSError):
        return []


def _listed(
    context: click.Context, listed: Listed, field: str, newest_by: str, begun: str, equal: dict[str, str]
) -> list[str]:
    # Set before gRPC is loaded, which would write its complaints into the line that is typed.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    import grpc

    from ripieno.wire.channels import open_blocking_channel
    from ripieno.wire.protos.v1.results_pb2_grpc import ResultsStub
    from ripieno.wire.protos.v1.sessions_pb2_grpc import SessionsStub
    from ripieno.wire.protos.v1.tasks_pb2_grpc import TasksStub
    from ripieno.wire.queries import query_to_wire

    stub = {Listed.SESSIONS: SessionsStub, Listed.TASKS: TasksStub, Listed.RESULTS: ResultsStub}[listed]
    conditions = [Condition(name, Operator.EQUAL, value) for name, value in equal.items()]
    if begun:
        conditions.append(Condition(field, Operator.STARTS_WITH, begun))
    sort = [Sort(newest_by, True)] if newest_by else []
    query = Query(listed, [conditions], sort, [field], page_size=_MOST)
    ends_at = time.monotonic() + _WITHIN_S
    try:
        for address in parse_addresses("address", context.params.get("address") or DEFAULT_ADDRESS):
            with open_blocking_channel(address) as channel:
                try:
                    reply: Any = stub(channel).List(query_to_wire(query), timeout=max(ends_at - time.monotonic(), 0.01))
                except grpc.RpcError:
                    continue  # the next replica, while there is time
                return _usable([getattr(row, field) for row in getattr(reply, listed.value)], begun)
    except (RipienoError, OSError, UnicodeError):
        pass  # an address that is none: the command itself will say so
    return []


def _usable(words: Sequence[str], begun: str) -> list[str]:
    """Return those words that a shell can complete: with blanks or control characters they would fall apart."""
    return [word for word in words if word.startswith(begun) and word.isprintable() and " " not in word]
