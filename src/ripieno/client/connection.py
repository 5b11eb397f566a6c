"""The channel to the control plane, and plain calls over it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from ripieno.client.objects import ObjectsHere
from ripieno.client.patience import Patience
from ripieno.domain.addresses import Address
from ripieno.wire.channels import open_channel
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2_grpc

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # After a restart of the server, be back soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Connection:
    """One channel, its stubs, and what the server said of itself.

    Must be made inside the event loop that uses it.

    Attributes:
        address: ``HOST:PORT`` or ``unix:/path``, in its one spelling.
        pushes_results, reads_results: Whether the server has ``Results.Follow`` and
            ``Results.Read``; True until it says no.
        objects: Where large results may be read instead.
    """

    def __init__(self, address: Address, patience_s: float) -> None:
        self.address = str(address)
        self.pushes_results = True
        self.reads_results = True
        self.objects = ObjectsHere()
        self._patience_s = patience_s
        self._chunk_limit_bytes = 0
        self._channel = open_channel(address, _CHANNEL_OPTIONS)
        self.submitter = submitter_service_pb2_grpc.SubmitterStub(self._channel)
        self.results = results_pb2_grpc.ResultsStub(self._channel)

    def patience(self, purpose: str) -> Patience:
        """The retries of one operation; ``purpose`` completes the sentence "could not ..."."""
        return Patience(self._patience_s, self.address, purpose)

    async def call(self, purpose: str, method: Callable[[RequestT], Awaitable[ReplyT]], request: RequestT) -> ReplyT:
        """One unary call that may be repeated without harm.

        Raises:
            RipienoError: the server refused it, or none answered.
        """
        patience = self.patience(purpose)
        while True:
            try:
                return await method(request)
            except grpc.aio.AioRpcError as error:
                await patience.pause(error)

    async def chunk_limit(self) -> int:
        """The longest chunk that the server takes, in bytes; asked once."""
        if not self._chunk_limit_bytes:
            configuration = await self.call(
                "ask for the server's configuration", self.submitter.GetServiceConfiguration, objects_pb2.Empty()
            )
            self._chunk_limit_bytes = configuration.data_chunk_max_size
        return self._chunk_limit_bytes

    async def close(self) -> None:
        """End all calls and close the channel."""
        await self._channel.close()
