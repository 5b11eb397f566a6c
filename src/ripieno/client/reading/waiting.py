"""Waiting for results on a server that has only the Submitter service, with one call for each result."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

import grpc
import grpc.aio

from ripieno.client.connection.connection import Connection
from ripieno.domain.errors import UnavailableError
from ripieno.wire.protos.armonik_v2 import objects_pb2, result_status_pb2
from ripieno.wire.protos.v1 import results_pb2

_WAITS_IN_FLIGHT = 64


async def waited_for(
    connection: Connection, session_id: str, keys: Iterable[str]
) -> AsyncGenerator[list[results_pb2.FinishedResult], None]:
    """Yield final results of a server that pushes none, with one waiting call for each key.

    Only the first 64 keys without an answer are waited for at a time, so a result
    further on is noticed when one of those is final. The data is left out.
    """
    remaining = iter(keys)
    waits: set[asyncio.Task[results_pb2.FinishedResult]] = set()
    try:
        while True:
            while len(waits) < _WAITS_IN_FLIGHT and (key := next(remaining, None)) is not None:
                waits.add(asyncio.create_task(wait_for_one(connection, session_id, key)))
            if not waits:
                return
            final, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            yield [wait.result() for wait in final]
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def wait_for_one(connection: Connection, session_id: str, key: str) -> results_pb2.FinishedResult:
    """Wait for one result with WaitForAvailability and return it without its data."""
    patience = connection.patience("wait for a result")
    request = objects_pb2.ResultRequest(session=session_id, key=key)
    while True:
        try:
            reply = await connection.submitter.WaitForAvailability(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return results_pb2.FinishedResult(key=key)
            await patience.pause(error)
            continue
        kind = reply.WhichOneof("type")
        if kind == "ok":
            return results_pb2.FinishedResult(key=key, status=result_status_pb2.RESULT_STATUS_COMPLETED)
        if kind == "error":
            return results_pb2.FinishedResult(
                key=key, status=result_status_pb2.RESULT_STATUS_ABORTED, error=reply.error
            )
        await patience.pause(UnavailableError(f"result {key!r} is not final yet"))
