"""Ports: free ones are found on every address of a name, taken ones are told."""

import socket

import pytest

from ripieno.domain.addresses import TcpAddress
from ripieno.up.errors import PortTakenError
from ripieno.up.ports import check_port_is_free


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::", "0.0.0.0", "localhost"])
def test_a_free_port_is_found_and_is_free(host: str) -> None:
    found = check_port_is_free(TcpAddress(host, 0))
    assert found.host == host
    assert found.port
    assert check_port_is_free(found) == found


@pytest.mark.parametrize(("taken", "asked"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::1", "localhost")])
def test_a_taken_port_is_told(taken: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a name stands for several addresses and only one of them is taken."""
    resolve = socket.getaddrinfo

    def both(host: str, port: int, **options: int) -> list[object]:
        hosts = ("127.0.0.1", "::1") if host == "localhost" else (host,)
        return [found for one in hosts for found in resolve(one, port, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with socket.create_server((taken, 0), family=socket.AF_INET6 if ":" in taken else socket.AF_INET) as other:
        address = TcpAddress(asked, other.getsockname()[1])
        with pytest.raises(PortTakenError, match="the port is in use") as told:
            check_port_is_free(address)
        assert str(address) in str(told.value)


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(PortTakenError, match=r"no-such-host\.invalid:0.*--listen"):
        check_port_is_free(TcpAddress("no-such-host.invalid", 0))
