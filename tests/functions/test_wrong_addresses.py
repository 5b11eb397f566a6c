"""Addresses at which no cluster answers: what listens there, or does not, is told at once."""

import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from click.testing import CliRunner, Result

import ripieno
from ripieno.cli.root import cli
from ripieno.cli.terms.exit_codes import ExitCode
from ripieno.domain.errors import UnavailableError
from ripieno.wire.unreachable import cause_in_words


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


class Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """A port that nobody else takes meanwhile, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_nothing_runs(closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("session", "list", "--address", closed_port)
    assert told.exit_code == ExitCode.NO_ANSWER
    assert told.output == (
        f"Error: no answer from {closed_port} (nothing listens there): start a cluster there with `ripieno up --listen"
        f" {closed_port}`, or name another one with --address, --context or RIPIENO_ADDRESS\n"
    )
    with pytest.raises(UnavailableError, match=r"nothing listens there.* Give the address at which `ripieno up` runs"):
        ripieno.connect(closed_port, patience=0)
    monkeypatch.setenv("RIPIENO_ADDRESS", closed_port)
    with pytest.raises(UnavailableError, match=r"The address is from RIPIENO_ADDRESS: without it a cluster is started"):
        ripieno.connect(patience=0)


def test_another_kind_of_server(web_server: str) -> None:
    told = run("session", "list", "--address", web_server)
    assert told.exit_code == ExitCode.NO_ANSWER
    assert told.output == (
        f"Error: what listens there is no cluster: it does not speak HTTP/2 ({web_server}): name another address with"
        " --address or RIPIENO_ADDRESS\n"
    )
    # Without the 30 seconds of patience that a cluster which is down would be given.
    with pytest.raises(UnavailableError, match=f"at {web_server}: what listens there is no cluster.* Give the address"):
        ripieno.connect(web_server)


def test_a_grpc_server_of_something_else(closed_port: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(
            ripieno.RipienoError, match=r"does not know this call .*: it is no ripieno cluster, or an older"
        ):
            ripieno.connect(f"127.0.0.1:{port}")
        told = run("session", "list", "--address", f"127.0.0.1:{port}")
        server.stop(None).wait()
    assert f"what listens at 127.0.0.1:{port} is not a cluster of this kind" in told.output


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:5001", r"is a URL; write the host and the port alone: 127\.0\.0\.1:5001"),
        ("my-cluster", r"is not HOST:PORT; write my-cluster:5001, for instance"),
        ("127.0.0.1:port", "'port'"),
        ("unix:here", "unix:/path"),
    ],
)
def test_what_is_no_address(address: str, words: str) -> None:
    with pytest.raises(ripieno.RipienoError, match=words):
        ripieno.connect(address)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        (
            "errors resolving a.invalid:1: [field:hostname lookup error:address lookup failed for a: Domain name not found]",
            "there is no host of that name",
        ),
        (
            "failed to connect to all addresses; last error: unix:/no: connect failed: error: No such file or directory",
            "there is no such socket",
        ),
        (
            "failed to connect to all addresses; last error: connection attempt timed out before receiving SETTINGS frame",
            "what listens there does not answer as a cluster does",
        ),
        ("failed to connect to all addresses; last error: something new", None),
        ("the database does not answer: Connection refused", None),
    ],
)
def test_the_words_of_grpc(details: str, words: str | None) -> None:
    assert cause_in_words(details) == (words or details)


def test_a_host_that_does_not_exist() -> None:
    told = run("session", "list", "--address", "no-such-host.invalid:5001")
    assert told.exit_code == ExitCode.NO_ANSWER
    assert "no answer from no-such-host.invalid:5001 (" in told.output
