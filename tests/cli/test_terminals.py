"""Commands as real processes, where terminals hold little, readers go away, servers say nothing and people lose patience."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from ripieno.cli.calling.terminal import printable
from ripieno.wire.protos.armonik_v2 import objects_pb2, submitter_service_pb2, submitter_service_pb2_grpc
from ripieno.wire.protos.v1 import query_pb2, sessions_pb2, sessions_pb2_grpc

_WITHIN_S = 30.0
_NAMES = ["Zürich", "東京", "\U0001f600", "new\nline", "[red]markup[/red]", "bell\a\x1b[31m", "\u202eabc"]
_LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "dumb": {"LANG": "C", "TERM": "dumb"},
    "UTF-8": {"LC_ALL": "C.UTF-8"},
}


class Listing(submitter_service_pb2_grpc.SubmitterServicer, sessions_pb2_grpc.SessionsServicer):
    """Knows sessions by these names, or says nothing at all."""

    def __init__(self) -> None:
        self.names = list(_NAMES)
        self.asked = asyncio.Event()
        self.silent = False
        self.address = ""

    async def List(self, request: query_pb2.Query, context: Any) -> Any:  # noqa: N802
        """Of the service beside version 2: names, a page after the other."""
        self.asked.set()
        if self.silent:
            await asyncio.Event().wait()
        begin, size = int(request.cursor or 0), request.page_size or 100
        sessions = [sessions_pb2.Session(id=name, status="RUNNING") for name in self.names[begin : begin + size]]
        end = begin + len(sessions)
        page = query_pb2.Page(next_cursor=str(end) if end < len(self.names) else "")
        return sessions_pb2.SessionPage(sessions=sessions, page=page)

    async def Get(self, request: sessions_pb2.SessionId, context: Any) -> Any:  # noqa: N802
        return sessions_pb2.Session(id=request.session_id, status="RUNNING")

    async def ListSessions(self, request: submitter_service_pb2.SessionFilter, context: Any) -> Any:  # noqa: N802
        known = [name for name in self.names if not request.sessions or name in request.sessions]
        return submitter_service_pb2.SessionIdList(session_ids=[] if request.HasField("included") else known)

    async def CountTasks(self, request: submitter_service_pb2.TaskFilter, context: Any) -> Any:  # noqa: N802
        return objects_pb2.Count()


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Listing]:
    listing = Listing()  # type: ignore[abstract] # calls that it has not are not made
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    submitter_service_pb2_grpc.add_SubmitterServicer_to_server(listing, server)
    sessions_pb2_grpc.add_SessionsServicer_to_server(listing, server)
    listing.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield listing
    await server.stop(0)


async def _start(
    *words: str, environment: dict[str, str] | None = None, stdout: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ripieno", *words),
        env=os.environ | (environment or {}),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


async def _end(process: asyncio.subprocess.Process) -> tuple[int | None, bytes, str]:
    async with asyncio.timeout(_WITHIN_S):
        output, errors = await process.communicate()
    return process.returncode, output, errors.decode()


@pytest.mark.parametrize("locale", _LOCALES)
async def test_names_are_shown_whatever_the_terminal_holds(locale: str, cluster: Listing) -> None:
    at = ("--address", cluster.address)
    code, output, errors = await _end(await _start("session", "list", *at, environment=_LOCALES[locale]))
    assert (code, errors) == (0, "")
    assert len(output.splitlines()) == 1 + len(_NAMES)  # a name is one line
    assert b"\x1b" not in output and b"\a" not in output
    code, output, errors = await _end(
        await _start("session", "list", *at, "--output", "json", environment=_LOCALES[locale])
    )
    assert (code, errors) == (0, "")
    assert [row["id"] for row in json.loads(output)] == _NAMES
    for name in ("Zürich", "東京"):
        code, _, errors = await _end(await _start("session", "show", name, *at, environment=_LOCALES[locale]))
        assert (code, errors) == (0, "")


async def test_a_reader_that_goes_away_ends_the_command_quietly(cluster: Listing) -> None:
    cluster.names = [f"{number:0100d}" for number in range(20_000)]
    reader, writer = os.pipe()
    process = await _start("session", "list", "--address", cluster.address, stdout=writer)
    os.close(writer)
    assert await asyncio.to_thread(os.read, reader, 10)
    os.close(reader)
    code, _, errors = await _end(process)
    assert (code, errors) == (141, "")


async def test_ctrl_c_ends_a_command_that_waits_quietly(cluster: Listing) -> None:
    cluster.silent = True
    process = await _start("session", "list", "--address", cluster.address)
    await cluster.asked.wait()
    process.send_signal(signal.SIGINT)
    code, output, errors = await _end(process)
    assert (code, output, errors.strip()) == (130, b"", "")


async def test_whatever_listens_there_is_told_in_one_line(cluster: Listing) -> None:
    async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(24)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    for serve, said in ((closes, "no answer from {} ("), (other, "what listens there is no cluster: ")):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            code, _, errors = await _end(await _start("session", "list", "--address", address))
            assert code == 4
            assert errors.startswith(f"Error: {said.format(address)}") and address in errors
            assert len(errors.splitlines()) == 1
    # A cluster without this call.
    code, _, errors = await _end(await _start("result", "get", "x", "k", "--address", cluster.address))
    assert code == 4
    assert errors.startswith("Error: what listens at") and len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("session", "show", "a\udce9"), ("task", "show", " "), ("result", "get", "s", "x" * 2_000)]
)
async def test_a_name_that_no_server_could_know_is_refused(words: tuple[str, ...]) -> None:
    code, _, errors = await _end(await _start(*words))
    assert code == 2
    assert "Invalid value for" in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), ("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\u202ea", r"\u202ea"), ("é", "é")],
)
def test_what_moves_a_cursor_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
