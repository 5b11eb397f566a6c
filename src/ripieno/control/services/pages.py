"""What the services' lists have in common: a query decoded and answered, and its rows written into a reply."""

import asyncio
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from ripieno.domain.catalogue import Listed
from ripieno.domain.errors import NotFoundError
from ripieno.domain.queries import Condition, Operator, Query, check_filter, check_query
from ripieno.store.reading.lists import Lists
from ripieno.wire.protos.v1 import query_pb2
from ripieno.wire.queries import filled, filter_from_wire, query_from_wire

#: Rows that are written into a reply before other calls have their turn on the event loop.
_ROWS_AT_ONCE = 200

RowT = TypeVar("RowT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)


class Pages(Generic[RowT, ReplyT]):
    """The answers of one list.

    Args:
        lists: Answers queries.
        listed: The list.
        row: Message of a row.
        reply: Message of a page.
        rows: Name of its field that has the rows.
    """

    def __init__(self, lists: Lists, listed: Listed, row: type[RowT], reply: type[ReplyT], rows: str) -> None:
        self._lists = lists
        self._listed = listed
        self._row = row
        self._reply = reply
        self._rows = rows

    async def list(self, request: query_pb2.Query) -> ReplyT:
        """Return a page. Raises the errors of ``Lists.page``, and ``InvalidRequestError`` for a query that is none."""
        query = query_from_wire(self._listed, request)
        await asyncio.sleep(0)  # a filter may have thousands of conditions; others have their turn between the steps
        page = await self._lists.page(check_query(query))
        message = self._reply()
        rows: Any = getattr(message, self._rows)
        for place, row in enumerate(page.rows, 1):
            filled(rows.add(), row)
            if place % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        about: query_pb2.Page = getattr(message, "page")  # noqa: B009 - all replies of lists have one
        about.SetInParent()
        about.next_cursor = page.next_cursor
        about.total = page.total or 0
        return message

    async def count(self, request: query_pb2.Filter) -> query_pb2.Total:
        """Return how many rows match; errors as for ``list``."""
        tests = check_filter(self._listed, filter_from_wire(request))
        return query_pb2.Total(rows=await self._lists.count(self._listed, tests))

    async def get(self, missing: str, **equal: str) -> RowT:
        """Return the one row whose fields equal these.

        Raises:
            NotFoundError: there is none; the text is ``missing``.
        """
        all_of = [Condition(field, Operator.EQUAL, value) for field, value in equal.items()]
        page = await self._lists.page(check_query(Query(self._listed, [all_of], page_size=1)))
        if not page.rows:
            raise NotFoundError(missing)
        return filled(self._row(), page.rows[0])
