"""The Results service: what ``control.results`` sends to clients, and lists of results."""

from typing import Any

import grpc.aio

from ripieno.control.results.results import Results as SentResults
from ripieno.control.services.pages import Pages
from ripieno.domain.catalogue import Listed
from ripieno.domain.identifiers import check_identifier
from ripieno.store.reading.lists import Lists
from ripieno.wire.protos.v1 import query_pb2, results_pb2

Context = grpc.aio.ServicerContext[Any, Any]

# The method names below are the protocol's.
# ruff: noqa: N802


class Results(SentResults):
    """Implements the Results service for clients: adds lists to what sends results.

    Args:
        lists: Answers queries.
        others: Arguments of ``SentResults``.
    """

    def __init__(self, lists: Lists, *others: Any) -> None:
        super().__init__(*others)
        self._pages = Pages(lists, Listed.RESULTS, results_pb2.Result, results_pb2.ResultPage, "results")

    async def List(self, request: query_pb2.Query, context: Context) -> results_pb2.ResultPage:
        """Return a page of the results."""
        return await self._pages.list(request)

    async def Count(self, request: query_pb2.Filter, context: Context) -> query_pb2.Total:
        """Return how many results match."""
        return await self._pages.count(request)

    async def Get(self, request: results_pb2.ResultId, context: Context) -> results_pb2.Result:
        """Return a result."""
        check_identifier("session_id", request.session_id)
        check_identifier("key", request.key)
        missing = f"result {request.key!r} does not exist in session {request.session_id!r}"
        return await self._pages.get(missing, session_id=request.session_id, key=request.key)
