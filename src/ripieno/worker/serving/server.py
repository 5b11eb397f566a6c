"""``WorkerServer``: the worker's I/O, a thread with an event loop that serves both services at one address."""

import asyncio
import contextlib
import importlib
import importlib.util
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

import grpc.aio

from ripieno.domain.addresses import Address, TcpAddress, UnixAddress, parse_worker_address
from ripieno.domain.errors import InvalidRequestError
from ripieno.wire.channels import target_of
from ripieno.worker.process.borders import Borders
from ripieno.worker.running.inbox import Inbox
from ripieno.worker.serving.batch_lane import BatchLane
from ripieno.worker.serving.process_lane import ProcessLane
from ripieno.worker.terms.errors import ServeError

_OPTIONS = (
    # Both sides bound the messages that they send, so gRPC's own limits are off.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    # An agent on another machine asks every few seconds whether the connection still stands.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)
#: Seconds that the last answers may take to be sent when the server stops.
_STOP_GRACE_S = 2.0


class WorkerServer:
    """Serves ``Worker``, and ``BatchWorker`` with it, from a thread of its own.

    Args:
        address: ``unix:/path`` or ``HOST:PORT`` (port 0 takes a free one).
        inbox: The queue for attempts that are ready to run. It is stopped when the server ends.
        borders: Where the output of one attempt ends and that of the next begins.
        batch: Serve ``BatchWorker`` too.
        places: How many attempts run at a time.
    """

    def __init__(self, address: str, inbox: Inbox, borders: Borders, *, batch: bool = True, places: int = 1) -> None:
        self._address = address
        self._inbox = inbox
        self._borders = borders
        self._batch = batch
        self._places = places
        self._ready: Future[str] = Future()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._main, name="ripieno-worker-io", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._lanes: list[ProcessLane | BatchLane] = []
        self._stopped: asyncio.Event

    def start(self) -> str:
        """Begin to listen, and return the address that the server listens on.

        Raises:
            ServeError: the address is not valid, is in use, or cannot be listened on.
        """
        prepare_address(self._address)
        self._thread.start()
        return self._ready.result()

    def drain(self) -> None:
        """Begin no more attempts (any thread, a signal handler too)."""
        self._loop.call_soon_threadsafe(self._drain)

    def stop(self) -> None:
        """Send what is left to be sent, end all calls and stop listening; return when that is done.

        Raises:
            Exception: whatever ended the server before its time.
        """
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself: its failure tells why
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _drain(self) -> None:
        for lane in self._lanes:
            lane.drain()

    def _stop(self) -> None:
        self._drain()
        self._stopped.set()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._failure = error
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._inbox.stop()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        server = grpc.aio.server(options=_OPTIONS)
        bound = _listen(server, self._address)
        async with asyncio.TaskGroup() as readers:
            self._lanes.append(ProcessLane(self._inbox, self._borders, readers))
            if self._batch:
                self._lanes.append(BatchLane(self._inbox, self._borders, readers, self._places))
            for lane in self._lanes:
                lane.add_to(server)
            await server.start()
            self._ready.set_result(bound)
            await self._stopped.wait()
            await server.stop(_STOP_GRACE_S)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory if uvloop is installed (it handles more messages), else None."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


def _listen(server: grpc.aio.Server, address: str) -> str:
    where = _parsed(address)
    try:
        port = server.add_insecure_port(target_of(where))
    except RuntimeError as error:
        raise ServeError(f"cannot listen on {address!r}: {error}") from error
    return str(TcpAddress(where.host, port).reachable if isinstance(where, TcpAddress) else where)


def _parsed(address: str) -> Address:
    try:
        return parse_worker_address("address", address)
    except InvalidRequestError as error:
        raise ServeError(error.detail) from error


def prepare_address(address: str) -> None:
    """Remove a socket that a dead worker left behind at ``address``.

    Raises:
        ServeError: ``address`` is not valid, another process listens there, or something that is no
            socket is in the way.
    """
    where = _parsed(address)
    if not isinstance(where, UnixAddress):
        return
    path = Path(where.path)
    if not path.exists():
        return
    if not path.is_socket():
        raise ServeError(f"{str(path)!r} exists and is not a socket; choose another address")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ServeError(f"another process listens on {str(path)!r}; stop it or choose another address")


def remove_socket(address: str) -> None:
    """Remove the socket of a worker that has stopped."""
    if isinstance(where := _parsed(address), UnixAddress):
        Path(where.path).unlink(missing_ok=True)
