"""The agent's current connection to the control plane for calls beside the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc.aio

from ripieno.agent.conversation.gathering import Limits
from ripieno.agent.transport.channels import control_channel
from ripieno.agent.uplink.names import ObjectNames
from ripieno.domain.data import ObjectDirectory
from ripieno.wire.protos.v1 import agent_pb2_grpc

if TYPE_CHECKING:
    from ripieno.wire.protos.v1.agent_pb2_grpc import AgentAsyncStub


class Link:
    """The replica of the control plane that is reached now, and what its Welcome said.

    Attributes:
        limits: Limits in the latest Welcome.
        objects: Directory in which the agent can write objects itself; None sends them to the control plane.
        names: Names for objects in that directory.
    """

    def __init__(self) -> None:
        self.limits = Limits()
        self.objects: ObjectDirectory | None = None
        self.names = ObjectNames(self.stub)
        self._channel: grpc.aio.Channel | None = None
        self._former: grpc.aio.Channel | None = None
        self._stub: AgentAsyncStub | None = None
        self._connected = asyncio.Event()

    def connected(self, address: str, limits: Limits, objects: ObjectDirectory | None) -> None:
        """Use a replica that sent Welcome. Calls to it use a separate connection, not that of the stream."""
        self.limits = limits
        self.objects = objects
        self._channel = control_channel(address)
        self._stub = agent_pb2_grpc.AgentStub(self._channel)
        self._connected.set()

    async def disconnected(self) -> None:
        """Stop using a replica whose stream broke or which is going away; later calls wait for another.

        Calls under way may finish until the next disconnection, because an upload need not be given up
        when its replica drains.
        """
        self._connected.clear()
        await self._close_former()
        self._former, self._channel, self._stub = self._channel, None, None

    async def close(self) -> None:
        """Close all connections."""
        await self.disconnected()
        await self._close_former()

    async def _close_former(self) -> None:
        if self._former is not None:
            await self._former.close()
            self._former = None

    async def stub(self) -> AgentAsyncStub:
        """Return the stub for the current replica, waiting until there is one."""
        while self._stub is None:
            await self._connected.wait()
        return self._stub
