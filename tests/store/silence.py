"""A way to the database that can fall silent: it takes everything and passes nothing on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Passes bytes between us and the server, until those connections are made silent."""

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._heard = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    def fall_silent(self) -> None:
        """From here on the present connections carry nothing; new ones do."""
        self._heard.set()
        self._heard = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to whose end both sockets belong."""
        self.connections += 1
        silent = self._heard
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if silent.is_set():
                    await asyncio.Event().wait()
                target.write(data)
                await target.drain()

        try:
            there_reader, there_writer = await asyncio.open_unix_connection(self._server_socket)
            ends.append(there_writer)
            ways = [
                asyncio.create_task(carry(reader, there_writer)),
                asyncio.create_task(carry(there_reader, writer)),
            ]
            self._tasks.update(ways)
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.transport.abort()

    async def close(self) -> None:
        """End all connections; no new ones are taken any more."""
        for _ in range(3):  # a connection that was accepted just now reaches ``serve`` within these turns
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # where transports close their sockets


@asynccontextmanager
async def silenced(database_url: str, directory: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the database, and the URL that leads through it."""
    query = parse_qs(urlsplit(database_url).query)
    proxy = Proxy(Path(query["host"][0]) / _SOCKET)
    server = await asyncio.start_unix_server(proxy.serve, directory / _SOCKET)
    try:
        yield proxy, f"{database_url.partition('?')[0]}?host={quote(str(directory), safe='')}&port=5432"
    finally:
        server.close()
        await proxy.close()
