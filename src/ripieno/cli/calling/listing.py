"""The subcommand ``list`` of a noun: its flags, and its calls page by page.

Pages are read one after the other and printed as they come, so that a list of any length needs no memory. A page that would
be too large for a message is asked for again with half as many rows.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import click
import grpc
from google.protobuf.message import Message

from ripieno.cli.calling.addresses import address_flags
from ripieno.cli.calling.calls import CALL_TIMEOUT_S, calling
from ripieno.cli.calling.shapes import SHAPES, cells
from ripieno.cli.calling.terminal import printable
from ripieno.cli.terms.exit_codes import CommandError, ExitCode
from ripieno.cli.terms.values import Seconds
from ripieno.domain.catalogue import Listed, fields_of, find_field
from ripieno.domain.errors import InvalidRequestError
from ripieno.domain.language import parse_columns, parse_filter, parse_sort
from ripieno.domain.queries import Condition, Filter, Operator, Query, Sort
from ripieno.wire.codes import LIMIT
from ripieno.wire.protos.v1 import query_pb2
from ripieno.wire.queries import query_to_wire

#: What ``--help`` says about filters (``domain.language``).
_FILTERS = (
    "Conditions on the rows, such as: status=ERROR and options.priority>5 or id^=run-. Operators: = != < <= > >= ^= (starts"
    " with) $= (ends with) *= (contains) !*= in (a, b), is set, is unset. Times are ISO 8601 or an age (-2h)."
)

#: Rows of one call.
_PAGE = 1_000
#: Rows that ``--watch`` shows unless told otherwise.
_WATCHED = 20
#: Ids of one filter whose existence is looked up.
_LOOKED_UP = 1_000

Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags of a list ask for.

    Attributes:
        any_of: The filter.
        limit: The most rows; None for all.
        columns: Names of the fields to show.
        watch_s: Seconds between two looks; None for one look.
    """

    listed: Listed
    any_of: Filter
    sort: Sequence[Sort]
    limit: int | None
    columns: Sequence[str]
    watch_s: float | None
    output: str
    address: str

    def among(self, field: str, values: Sequence[str]) -> "Asked":
        """Return the same for rows with one of these values in a field, besides what the filter says."""
        each = [Condition(field, Operator.EQUAL, value) for value in values]
        return replace(self, any_of=[[one, *all_of] for one in each for all_of in self.any_of or [[]]])


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows of a list come from: the stub of a service, its method, and the field of its reply that has them."""

    stub: Callable[[grpc.Channel], Any]
    method: str
    rows: str


def list_flags(listed: Listed, columns: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command with the flags of a list, which it gets as ``asked``.

    Args:
        listed: The list.
        columns: The fields that are shown unless the user names others.
    """
    names = ", ".join(fields_of(listed))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def called(
            filter_: str, sort: str, limit: int | None, columns: str, watch_s: float | None, output: str, address: str,
            **others: Any,
        ) -> Any:  # fmt: skip
            asked = Asked(
                listed, _given("--filter", parse_filter, listed, filter_), _given("--sort", parse_sort, listed, sort) if sort else [],
                limit, _given("--columns", parse_columns, listed, columns), watch_s, output, address,
            )  # fmt: skip
            return command(asked=asked, **others)

        called.__doc__ = command.__doc__
        called.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        wrapped: Callable[..., Any] = called
        for flag in (
            click.option("--filter", "filter_", metavar="CONDITIONS", default="", help=_FILTERS),
            click.option("--sort", metavar="FIELD[,...]", default="",
                         help="Fields to sort by; with a minus from the last to the first: -ended_at,id.  [default: oldest first]"),
            click.option("--limit", type=click.IntRange(min=1), metavar="ROWS", help="The most rows.  [default: all]"),
            click.option("--columns", metavar="FIELD[,...]", default=columns, show_default=True, help=f"Of {names}."),
            click.option("--watch", "watch_s", is_flag=False, flag_value=2.0, type=Seconds(min=0.1), metavar="[SECONDS]",
                         help="Look again every so many seconds (2), until Ctrl-C."),
            click.option("--output", type=click.Choice(["table", "json", "jsonl", "csv", "text"]), default="table",
                         show_default=True, help="Shape of the answer; text is the same as table."),
            address_flags,
        ):  # fmt: skip
            wrapped = flag(wrapped)
        return wrapped

    return decorate


def _given(flag: str, parse: Callable[[Listed, str], Any], listed: Listed, text: str) -> Any:
    try:
        return parse(listed, text)
    except InvalidRequestError as error:
        raise click.BadParameter(error.detail, param_hint=flag) from error


def show_list(asked: Asked, place: Place, known: Mapping[str, Place]) -> None:
    """Print a list, again and again if it is watched.

    Args:
        asked: What to show.
        place: Where its rows come from.
        known: For each field that names things by id: where these are listed. Ids that the filter names and that do
            not exist are told at the end.

    Raises:
        click.ClickException: if a call failed, or ids do not exist.
    """
    pause_s = asked.watch_s
    if pause_s is None:
        _show(asked, place)
        _tell_unknown(asked, known)
        return
    asked = replace(asked, limit=asked.limit or _WATCHED)
    while True:
        if sys.stdout.isatty():
            click.clear()
        _show(asked, place)
        sys.stdout.flush()
        time.sleep(pause_s)


def _show(asked: Asked, place: Place) -> None:
    fields = [find_field(asked.listed, name, "--columns") for name in asked.columns]
    names = [field.of or field.name for field in fields]
    query = Query(asked.listed, asked.any_of, asked.sort, list(dict.fromkeys(names)), page_size=_PAGE)
    with calling(asked.address, place.stub) as stub:
        pages = _pages(getattr(stub, place.method), query, place.rows, asked.limit)
        SHAPES[asked.output](([cells(fields, message) for message in page] for page in pages), asked.columns)


def _pages(call: Call, query: Query, rows: str, limit: int | None) -> Iterator[Sequence[Message]]:
    """Yield pages up to a limit of rows; at least one page, which may be empty."""
    size, left = query.page_size, limit
    while True:
        wanted = size if left is None else min(size, left)
        try:
            reply = call(query_to_wire(replace(query, page_size=wanted)), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            if not _is_too_large(error) or size == 1:
                raise
            size = max(wanted // 2, 1)
            continue
        found = getattr(reply, rows)
        yield found
        left = None if left is None else left - len(found)
        if not reply.page.next_cursor or left == 0:
            return
        query = replace(query, cursor=reply.page.next_cursor)


def _is_too_large(error: Any) -> bool:
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and (LIMIT, "bytes_per_page") in (
        error.trailing_metadata() or ()
    )


def _tell_unknown(asked: Asked, known: Mapping[str, Place]) -> None:
    for field, place in known.items():
        named = (
            str(condition.value)
            for all_of in asked.any_of
            for condition in all_of
            if condition.field == field and condition.operator is Operator.EQUAL
        )
        ids = list(islice(dict.fromkeys(named), _LOOKED_UP))
        if ids and (unknown := _unknown(asked.address, ids, place)):
            thing = {"session_id": "session", "task_id": "task"}.get(field, asked.listed.value.removesuffix("s"))
            told = ", ".join(repr(printable(each)) for each in unknown[:10])
            more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
            hint = "; `ripieno session list` shows all" if thing == "session" else ""
            raise CommandError(f"there is no {thing} {told}{more}{hint}", ExitCode.NOT_FOUND)


def _unknown(address: str, ids: Sequence[str], place: Place) -> list[str]:
    condition = query_pb2.Condition(field="id", operator=query_pb2.EQUAL)
    arms = []
    for each in ids:
        condition.text = each
        arms.append(query_pb2.Conjunction(all_of=[condition]))
    query = query_pb2.Query(filter=query_pb2.Filter(any_of=arms), fields=["id"], page_size=len(ids))
    with calling(address, place.stub) as stub:
        reply = getattr(stub, place.method)(query, timeout=CALL_TIMEOUT_S)
    found = {row.id for row in getattr(reply, place.rows)}
    return [each for each in ids if each not in found]
