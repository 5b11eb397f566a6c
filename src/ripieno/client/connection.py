"""The channel to the control plane, and plain calls over it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from ripieno.client import forks
from ripieno.client.objects import ObjectsHere
from ripieno.client.patience import Patience
from ripieno.domain.addresses import Address
from ripieno.wire.channels import open_channel
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2_grpc

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
StubT = TypeVar("StubT")

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # After a restart of the server, be back soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Connection:
    """One channel, its stubs, and what the server said of itself.

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
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._submitter: submitter_service_pb2_grpc.SubmitterAsyncStub | None = None
        self._results: results_pb2_grpc.ResultsAsyncStub | None = None

    @property
    def submitter(self) -> "submitter_service_pb2_grpc.SubmitterAsyncStub":
        """The protocol's own calls."""
        return _opened(self._submitter)

    @property
    def results(self) -> "results_pb2_grpc.ResultsAsyncStub":
        """The calls that only this project's servers have."""
        return _opened(self._results)

    def open(self) -> None:
        """Make the channel, inside the event loop that uses it; again, if it was closed. Nothing is sent yet.

        Raises:
            RuntimeError: gRPC cannot be used in this process.
        """
        forks.connection_opened()
        self._channel = channel = open_channel(self._address, _CHANNEL_OPTIONS)
        self._submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
        self._results = results_pb2_grpc.ResultsStub(channel)

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
        """End all calls and close the channel. May be repeated."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            self._submitter = self._results = None
            try:
                await channel.close()
            finally:
                forks.connection_closed()


def _opened(stub: StubT | None) -> StubT:
    if stub is None:
        raise RuntimeError("the client is closed")
    return stub
