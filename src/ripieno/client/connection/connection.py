"""The channels to the control plane, and plain calls over them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

import grpc.aio

from ripieno.client.connection import forks
from ripieno.client.connection.object_files import ObjectsHere
from ripieno.client.connection.outage import Outage
from ripieno.client.connection.patience import Patience
from ripieno.client.connection.replicas import Replicas
from ripieno.domain.addresses import Address
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import results_pb2_grpc

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
StubT = TypeVar("StubT")

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Reconnect soon after a restart of the server.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Limit of one attempt to connect; gRPC's default waits 20 s for a host that does not answer.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)


class Connection:
    """Channels to one or several replicas, their stubs, and what is known of the servers' abilities.

    Attributes:
        address: ``HOST:PORT`` or ``unix:/path``, in canonical spelling; several are separated by commas.
        pushes_results, reads_results, lists_tasks: Whether the server has ``Results.Follow``,
            ``Results.Read`` and ``Results.ListTaskIds``; True until it answers UNIMPLEMENTED.
        objects: The object store's directory, where large results may be read instead of being sent.
        follows: How many streams of ``Results.Follow`` are open.
    """

    def __init__(self, addresses: Sequence[Address], patience_s: float, *, use_proxy: bool = False) -> None:
        self.address = ",".join(map(str, addresses))
        self.pushes_results = True
        self.reads_results = True
        self.lists_tasks = True
        self.objects = ObjectsHere()
        self.follows = 0
        self._patience_s = patience_s
        self._chunk_limit_bytes = 0
        self._addresses = addresses
        self._use_proxy = use_proxy
        self._replicas: Replicas | None = None
        self._outage = Outage(self.address, patience_s, self._turn)
        self._submitter: submitter_service_pb2_grpc.SubmitterAsyncStub | None = None
        self._results: results_pb2_grpc.ResultsAsyncStub | None = None

    @property
    def submitter(self) -> "submitter_service_pb2_grpc.SubmitterAsyncStub":
        """The stub of the Submitter service, the protocol's own calls."""
        return _opened(self._submitter)

    @property
    def results(self) -> "results_pb2_grpc.ResultsAsyncStub":
        """The stub of the Results service, which only this project's servers have."""
        return _opened(self._results)

    def stub(self, service: Callable[[grpc.aio.Channel], StubT]) -> StubT:
        """Return a stub of one of the services beside version 2, which only this project's servers have.

        Args:
            service: Makes the stub from a channel.
        """
        return service(cast(grpc.aio.Channel, _opened(self._replicas)))

    def open(self) -> None:
        """Make the channels, on the event loop that will use them; also after ``close``. Nothing is sent yet.

        Raises:
            RuntimeError: gRPC cannot be used in this process.
        """
        forks.connection_opened()
        self._replicas = replicas = Replicas(self._addresses, _CHANNEL_OPTIONS, use_proxy=self._use_proxy)
        channel = cast(grpc.aio.Channel, replicas)  # it has the methods of a channel that stubs use
        self._submitter = submitter_service_pb2_grpc.SubmitterStub(channel)
        self._results = results_pb2_grpc.ResultsStub(channel)

    def patience(self, purpose: str) -> Patience:
        """Return the retries of one operation; ``purpose`` completes the sentence "could not ..."."""
        return Patience(self._patience_s, self.address, purpose, self._outage)

    async def call(self, purpose: str, method: Callable[[RequestT], Awaitable[ReplyT]], request: RequestT) -> ReplyT:
        """Make a unary call that may be repeated without harm, and retry it while no server answers.

        Raises:
            RipienoError: the server refused the call, or no server answered.
        """
        patience = self.patience(purpose)
        while True:
            try:
                reply = await method(request)
            except grpc.aio.AioRpcError as error:
                await patience.pause(error)
            else:
                self._outage.over()
                return reply

    async def chunk_limit(self) -> int:
        """Return the longest chunk that the server takes, in bytes. The server is asked only once."""
        if not self._chunk_limit_bytes:
            configuration = await self.call(
                "ask for the server's configuration", self.submitter.GetServiceConfiguration, objects_pb2.Empty()
            )
            self._chunk_limit_bytes = configuration.data_chunk_max_size
        return self._chunk_limit_bytes

    async def close(self) -> None:
        """End all calls and close the channels. May be repeated."""
        if self._replicas is not None:
            replicas, self._replicas = self._replicas, None
            self._submitter = self._results = None
            try:
                await replicas.close()
            finally:
                forks.connection_closed()

    def _turn(self) -> None:
        if self._replicas is not None:
            self._replicas.turn()


def _opened(stub: StubT | None) -> StubT:
    if stub is None:
        raise RuntimeError("the client is closed")
    return stub
