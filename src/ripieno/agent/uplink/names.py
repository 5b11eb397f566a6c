"""Names for objects that this agent writes itself, taken from the control plane in batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ripieno.wire.protos.v1 import agent_pb2

if TYPE_CHECKING:
    from ripieno.wire.protos.v1.agent_pb2_grpc import AgentAsyncStub

#: Seconds within which a name has to be used. Later it may be collected as garbage although an attempt that has
#: just begun uses it.
USE_WITHIN_S = 600.0
#: Names are asked for in batches that last about this long, which makes them cheap. Larger batches are not asked
#: for, because unused names are noted as garbage for a day.
_LAST_FOR_S = 1.0
_LARGEST_BATCH = 256


class ObjectNames:
    """A supply of names that the control plane has staged for objects. Belongs to the event loop's thread."""

    def __init__(self, stub: Callable[[], Awaitable[AgentAsyncStub]]) -> None:
        self._stub = stub
        self._names: deque[str] = deque()
        self._asked_at = 0.0
        self._batch = 1
        self._asking = asyncio.Lock()

    async def take(self) -> str:
        """Return a name that no other object has. Write the object at once (see ``USE_WITHIN_S``).

        Raises:
            grpc.RpcError: if the control plane went away meanwhile.
        """
        async with self._asking:
            now = time.monotonic()
            if now - self._asked_at > USE_WITHIN_S:
                self._names.clear()
            if not self._names:
                busy = now - self._asked_at < _LAST_FOR_S
                self._batch = min(2 * self._batch, _LARGEST_BATCH) if busy else 1
                stub = await self._stub()
                self._asked_at = time.monotonic()
                reply = await stub.StageObjects(agent_pb2.StageObjectsRequest(count=self._batch))
                self._names.extend(reply.names)
            return self._names.popleft()
